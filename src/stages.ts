import { blackholeSink } from "./sinks/blackhole.ts";
import { consoleSink } from "./sinks/console.ts";
import { fileSink } from "./sinks/file.ts";
import { handler } from "./sinks/handler.ts";
import { http } from "./sinks/http.ts";
import { jetstreamSink } from "./sinks/jetstream.ts";
import { kafkaSink } from "./sinks/kafka.ts";
import { parquetSink } from "./sinks/parquet.ts";
import { pgmqSink } from "./sinks/pgmq.ts";
import { postgresSink } from "./sinks/postgres.ts";
import { tcp } from "./sinks/tcp.ts";
import { fileSource } from "./sources/file.ts";
import { jetstreamSource } from "./sources/jetstream.ts";
import { kafkaSource } from "./sources/kafka.ts";
import { pgmqSource } from "./sources/pgmq.ts";
import { postgresSource } from "./sources/postgres.ts";
import { stdinSource } from "./sources/stdin.ts";
import { timeslotsSource } from "./sources/timeslots.ts";
import { filter } from "./transforms/filter.ts";
import { json } from "./transforms/json.ts";
import { map } from "./transforms/map.ts";

/** Everything built in. A new stage is one file in its room and one word here. */
export const builtInStages = {
  sources: [fileSource, stdinSource, pgmqSource, postgresSource, jetstreamSource, kafkaSource, timeslotsSource],
  transforms: [json, filter, map],
  sinks: [
    fileSink,
    parquetSink,
    consoleSink,
    tcp,
    http,
    blackholeSink,
    postgresSink,
    pgmqSink,
    jetstreamSink,
    kafkaSink,
    handler,
  ],
} as const;
