import { ChannelRegistry } from "../channel/index.ts";
import type { StageChannels } from "../stage/index.ts";

/** Designed channels of small sizes for tests of stages alone. */
export function memoryStageChannels(capacity = 2): StageChannels {
  const registry = new ChannelRegistry();
  const size = { bufferSize: capacity, sendTimeoutMs: 0, warningThreshold: 0.8 };
  const namesOf = (section: string) => {
    const [component, channel] = section.split(".") as [string, string];
    return { component, channel, capacity };
  };
  return {
    create: (section, options) => ({
      ...registry.create({ ...namesOf(section), ...options, overflow: section === "shared.ffi" ? "error" : "block" }),
      size,
    }),
    createBroadcast: (section, options) => registry.createBroadcast({ ...namesOf(section), ...options }),
  };
}
