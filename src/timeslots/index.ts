export { type KernelCalls, KernelError, loadKernelCalls } from "./kernel-calls.ts";
export type { Abilities } from "./kernel-side.ts";
export { checkTimeSlots, explainRefusal, readBtf } from "./requirements.ts";
export { SlotCollector } from "./slot-collector.ts";
export { ROW_BYTES, SlotRows } from "./slot-rows.ts";
