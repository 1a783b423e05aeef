import { ChannelRegistry } from "../channel/index.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import type { StageChannels, TaskReadinessBehaviour } from "../stage/index.ts";

/** Designed channels of small sizes for tests of stages alone. */
export function memoryStageChannels(
  capacity = 2,
  options: { clock?: Clock; sendTimeoutMs?: number; taskReadiness?: TaskReadinessBehaviour } = {},
): StageChannels {
  const registry = new ChannelRegistry();
  const { clock = systemClock, sendTimeoutMs = 0 } = options;
  const size = { bufferSize: capacity, sendTimeoutMs, warningThreshold: 0.8 };
  const namesOf = (section: string) => {
    const [component, channel] = section.split(".") as [string, string];
    return { component, channel, capacity };
  };
  return {
    create: (section, options) => ({
      ...registry.create({
        ...namesOf(section),
        clock,
        ...options,
        overflow: section === "shared.ffi" ? "error" : "block",
      }),
      size,
    }),
    createBroadcast: (section, options) => registry.createBroadcast({ ...namesOf(section), ...options }),
    taskReadiness: options.taskReadiness ?? { maxRetries: 3, backoff: { initialMs: 1, maxMs: 5 } },
  };
}
