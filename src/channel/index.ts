export {
  type Broadcast,
  type BroadcastItem,
  type BroadcastOptions,
  type BroadcastReceiver,
  broadcast,
} from "./broadcast.ts";
export { channel, type Receiver, type Sender } from "./channel.ts";
export { type ChannelClock, machineClock } from "./clock.ts";
export type { Coalescing } from "./coalescing.ts";
export type { ChannelPressure } from "./core.ts";
export type { ChannelCounters, DropCounts } from "./counters.ts";
export type { PriorityLanes } from "./lanes.ts";
export { ChannelMonitor, type ChannelMonitorLog, type ChannelMonitorOptions } from "./monitor.ts";
export { type OneshotOptions, type OneshotReceiver, type OneshotSender, oneshot } from "./oneshot.ts";
export { type ChannelOptions, OVERFLOW_POLICIES, type OverflowPolicy } from "./options.ts";
export {
  type BroadcastDefinition,
  type ChannelDefinition,
  ChannelRegistry,
  type RegisteredChannel,
  type ResizableChannel,
} from "./registry.ts";
export { SEND_DURATION_BOUNDS_SECONDS, type SendDurations } from "./send-durations.ts";
export { setUnclosedHook, type UnclosedHandle, type UnclosedHook } from "./unclosed.ts";
