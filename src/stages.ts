import { fileSink } from "./sinks/file.ts";
import { http } from "./sinks/http.ts";
import { tcp } from "./sinks/tcp.ts";
import { filter } from "./transforms/filter.ts";
import { json } from "./transforms/json.ts";
import { map } from "./transforms/map.ts";

/** Everything built in. A new stage is one file in its room and one word here. */
export const builtInStages = {
  sources: [],
  transforms: [json, filter, map],
  sinks: [fileSink, tcp, http],
} as const;
