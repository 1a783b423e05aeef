import { capacityOf } from "../config/channel-size.ts";
import type { StageChannels } from "../stage/contract.ts";
import type { PipelineEnvironment } from "./environment.ts";

const made = new WeakMap<object, StageChannels>();

/** The designed channels that the stages of a process share: one object for each channel registry. */
export function stageChannels({ channels, plan, clock, log }: PipelineEnvironment): StageChannels {
  const existing = made.get(channels);
  if (existing !== undefined) return existing;
  const { warningThreshold } = plan.channels;
  const shared: StageChannels = {
    create(section, { why, priorityLanes, coalesce, ...options }) {
      const size = plan.channels.ofStages(section);
      const [component, channel] = section.split(".") as [string, string];
      const ends = channels.create({
        component,
        channel,
        why,
        clock,
        ...capacityOf(size),
        overflow: size.overflow,
        sendTimeoutMs: size.sendTimeoutMs,
        ...(size.overflow === "block"
          ? {
              onSlowSend: (waitedMs: number) =>
                log.warn(
                  { component, channel, waited_ms: waitedMs },
                  `a sender has waited ${waitedMs} ms for room in ${component}/${channel}; still waiting`,
                ),
            }
          : {}),
        ...(size.priorityLanes && priorityLanes !== undefined ? { priorityLanes } : {}),
        ...(size.coalesce && coalesce !== undefined ? { coalesce } : {}),
        ...options,
      });
      return {
        ...ends,
        size: { bufferSize: size.bufferSize, sendTimeoutMs: size.sendTimeoutMs, warningThreshold },
      };
    },
    createBroadcast(section, { why }) {
      const size = plan.channels.ofStages(section);
      const [component, channel] = section.split(".") as [string, string];
      const overflow = size.overflow === "drop_newest" ? "drop_newest" : "drop_oldest";
      return channels.createBroadcast({ component, channel, why, capacity: size.bufferSize, overflow });
    },
    taskReadiness: plan.taskReadiness,
  };
  made.set(channels, shared);
  return shared;
}
