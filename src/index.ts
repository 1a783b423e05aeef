// The front door: everything a program needs that embeds Tailrace or brings stages of its own.
export { Agent, type AgentOptions, openAgent } from "./agent/agent.ts";
export {
  type EventFunction,
  type Pipeline,
  PipelineBuilder,
  pipeline,
  type RunOptions,
} from "./agent/pipeline-builder.ts";
export type { AgentStatus } from "./agent/status.ts";
export {
  type Broadcast,
  broadcast,
  type ChannelCounters,
  type ChannelOptions,
  channel,
  type OverflowPolicy,
  oneshot,
  type Receiver,
  type Sender,
} from "./channel/index.ts";
export { defineConfig, loadPlan, type Plan, type StageList, type TailraceConfig } from "./config/index.ts";
export {
  BackpressureError,
  ChannelClosedError,
  ChannelFullError,
  CheckpointError,
  ConfigError,
  ERROR_CODES,
  type ErrorCode,
  type Mistake,
  StageError,
  TailraceError,
} from "./errors.ts";
export { TailerManager, type TailerManagerOptions } from "./files/index.ts";
export {
  Batch,
  DataRecord,
  type Ending,
  type EventFields,
  Lines,
  type Origin,
  type Position,
  type Range,
} from "./record/index.ts";
export { blackholeSink } from "./sinks/blackhole.ts";
export { consoleSink } from "./sinks/console.ts";
export { fileSink } from "./sinks/file.ts";
export { handler as handlerSink } from "./sinks/handler.ts";
export { http as httpSink } from "./sinks/http.ts";
export { tcp as tcpSink } from "./sinks/tcp.ts";
export { fileSource } from "./sources/file.ts";
export { stdinSource } from "./sources/stdin.ts";
export * from "./stage/index.ts";
export { builtInStages } from "./stages.ts";
export type { EventName, EventSink, EventSubscription, FactsOf, LifecycleEvent } from "./telemetry/events.ts";
export type { Logger } from "./telemetry/log.ts";
export { filter as filterTransform } from "./transforms/filter.ts";
export { json as jsonTransform } from "./transforms/json.ts";
export { type MapFunction, map as mapTransform } from "./transforms/map.ts";
