import type { Sink, Transform } from "../stage/contract.ts";
import type { Backlog } from "./backlog.ts";
import type { Input, PlannedSink, PlannedTransform } from "./open-stage.ts";
import type { RunningSource } from "./running-source.ts";
import type { SinkRunner } from "./sink-runner.ts";
import type { TransformRunner } from "./transform-runner.ts";

export interface TransformPart {
  planned: PlannedTransform;
  transform: Transform;
  readonly runner: TransformRunner;
  readonly input: Input;
}

export interface SinkPart {
  planned: PlannedSink;
  sink: Sink;
  readonly runner: SinkRunner;
  readonly input: Input;
  readonly backlog: Backlog;
}

/** What runs, by name. A reload changes it, and nobody else does. */
export interface Parts {
  readonly sources: Map<string, RunningSource>;
  readonly transforms: Map<string, TransformPart>;
  readonly sinks: Map<string, SinkPart>;
}
