import { resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Plan } from "../config/plan.ts";
import { ConfigError } from "../errors.ts";

/** Shared by the stages of a process: made by the first that needs it, from the plan of the start. */
const STAGE_CHANNELS = [
  "orchestration.event_listeners",
  "task_readiness.event_channel",
  "worker.command_processor",
  "worker.in_process_events",
  "shared.ffi",
] as const;

/**
 * What a reload leaves as it is: settings of the agent itself, and sizes of channels that are there already.
 * @throws ConfigError where the state directory is another: that would be another agent.
 */
export function settingsForLater(now: Plan, next: Plan, stateDir: string): string[] {
  if (resolve(next.stateDir) !== stateDir)
    throw new ConfigError([{ key: "state_dir", message: `was "${stateDir}"; another one needs a restart` }]);
  const later: string[] = [];
  const note = (key: string, before: unknown, after: unknown) => {
    if (!isDeepStrictEqual(before, after)) later.push(key);
  };
  note("api", now.api, next.api);
  note("otlp", now.otlp, next.otlp);
  note("shutdown", now.shutdown, next.shutdown);
  note("checkpoint", now.checkpoint, next.checkpoint);
  note("dead_letters", now.deadLetters, next.deadLetters);
  const { input: inputNow, ofStages: ofStagesNow, ...channelsNow } = now.channels;
  const { input: inputNext, ofStages: ofStagesNext, ...channelsNext } = next.channels;
  note("mpsc_channels", channelsNow, channelsNext);
  for (const section of STAGE_CHANNELS) note(`mpsc_channels.${section}`, ofStagesNow(section), ofStagesNext(section));
  note("event_systems.task_readiness", now.taskReadiness, next.taskReadiness);
  const stays = new Set([...now.transforms, ...now.sinks].map(({ name }) => name));
  for (const { name } of [...next.transforms, ...next.sinks])
    if (stays.has(name)) note(`mpsc_channels.components.${name}`, inputNow(name), inputNext(name));
  const sinks = new Map(now.sinks.map((sink) => [sink.name, sink]));
  for (const { name, maxLagBytes } of next.sinks) {
    const before = sinks.get(name);
    if (before !== undefined)
      note(`sinks.${name}.required`, before.maxLagBytes === undefined, maxLagBytes === undefined);
  }
  return later;
}
