import { blackholeSink } from "./sinks/blackhole.ts";
import { consoleSink } from "./sinks/console.ts";
import { fileSink } from "./sinks/file.ts";
import { http } from "./sinks/http.ts";
import { tcp } from "./sinks/tcp.ts";
import { fileSource } from "./sources/file.ts";
import { stdinSource } from "./sources/stdin.ts";
import { filter } from "./transforms/filter.ts";
import { json } from "./transforms/json.ts";
import { map } from "./transforms/map.ts";

/** Everything built in. A new stage is one file in its room and one word here. */
export const builtInStages = {
  sources: [fileSource, stdinSource],
  transforms: [json, filter, map],
  sinks: [fileSink, consoleSink, tcp, http, blackholeSink],
} as const;
