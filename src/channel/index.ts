export {
  type ChannelCounters,
  type ChannelOptions,
  channel,
  type OverflowPolicy,
  type Receiver,
  type Sender,
} from "./channel.ts";
