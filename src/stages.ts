import { blackholeSink } from "./sinks/blackhole.ts";
import { consoleSink } from "./sinks/console.ts";
import { fileSink } from "./sinks/file/index.ts";
import { httpSink } from "./sinks/http.ts";
import { tcpSink } from "./sinks/tcp.ts";
import { fileSource } from "./sources/file.ts";
import { stdinSource } from "./sources/stdin.ts";
import { filterTransform } from "./transforms/filter.ts";
import { jsonTransform } from "./transforms/json.ts";
import { mapTransform } from "./transforms/map.ts";

/** Everything built in. A new stage is one file in its room and one word here. */
export const builtInStages = {
  sources: [fileSource, stdinSource],
  transforms: [jsonTransform, filterTransform, mapTransform],
  sinks: [fileSink, consoleSink, tcpSink, httpSink, blackholeSink],
} as const;
