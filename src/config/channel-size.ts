import type { ChannelDefinition } from "../channel/index.ts";
import type { ChannelSize } from "./plan.ts";

/** How large a channel is, fixed or dynamic, in the words of the channel room; every channel of the plan is made with it. */
export function capacityOf(
  size: ChannelSize,
): Pick<ChannelDefinition<unknown>, "capacity" | "capacityBytes" | "capacityMin" | "capacityMax"> {
  const { bufferSize: capacity, bufferBytes, bufferSizeMin, bufferSizeMax } = size;
  return {
    capacity,
    ...(bufferBytes === undefined ? {} : { capacityBytes: bufferBytes }),
    ...(bufferSizeMin === undefined || bufferSizeMax === undefined
      ? {}
      : { capacityMin: bufferSizeMin, capacityMax: bufferSizeMax }),
  };
}
