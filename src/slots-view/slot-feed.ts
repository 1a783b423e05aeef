import { ConfigError, toError } from "../errors.ts";
import type { EventFields } from "../record/index.ts";
import type { Slot, SlotRow } from "./time-slot.ts";

/** Time slots of this machine, for who looks at it: the same as the `timeslots` source, without an agent. */
export interface SlotFeed {
  /** The slots that are over since the last call, as events; one for each process and slot, slot by slot. */
  look(): EventFields[];
  /** How full the kernel's ring was, a fraction of 1; at 1 events are lost. */
  readonly fill: number;
  close(): void;
}

const RING_BYTES = 8 * 1024 * 1024;

/** @throws ConfigError `TR_PRIVILEGE_MISSING` with the sentence that says what is missing */
export async function openSlotFeed(slotMs: number): Promise<SlotFeed> {
  const { checkTimeSlots, explainRefusal, loadKernelCalls, readBtf, SlotCollector, SlotRows } = await import(
    "../timeslots/index.ts"
  );
  const refused = (message: string) => new ConfigError([{ message }], "TR_PRIVILEGE_MISSING");
  await checkTimeSlots(loadKernelCalls).catch((error: unknown) => {
    throw refused(toError(error).message);
  });
  const slotNs = slotMs * 1_000_000;
  const calls = await loadKernelCalls();
  const collector = (() => {
    try {
      return new SlotCollector(calls, { btf: readBtf(), slotNs, ringBytes: RING_BYTES });
    } catch (error) {
      throw refused(explainRefusal(error));
    }
  })();
  const rows = new SlotRows();
  const memory = Buffer.alloc(0);
  return {
    look() {
      collector.collect((slot) => rows.add(slot, collector.names));
      const { abilities } = collector;
      const messages = rows.messages(0, rows.count, { memory, firstNumber: 0, slotNs, abilities });
      rows.clear();
      return messages.map(({ fields }) => fields);
    },
    get fill() {
      return collector.fill;
    },
    close: () => collector.close(),
  };
}

/** Rows that belong to one slot stand together; what is of one slot is made one. */
export function slotsOf(events: readonly EventFields[]): Slot[] {
  const slots: Slot[] = [];
  let rows: SlotRow[] = [];
  let start: unknown;
  for (const event of events) {
    if (event["slot_start"] !== start || rows.length === 0) {
      start = event["slot_start"];
      rows = [];
      slots.push({
        startMs: Date.parse(String(start)),
        ns: Number(event["slot_ns"]),
        isComplete: event["complete"] === true,
        lostEvents: Number(event["lost_events"] ?? 0),
        rows,
      });
    }
    rows.push({
      pid: Number(event["pid"]),
      comm: String(event["comm"]),
      cgroup: String(event["cgroup"]),
      cpuNs: Number(event["cpu_ns"]),
      waitNs: Number(event["runqueue_wait_ns"]),
      switches: Number(event["context_switches"]),
      faults: Number(event["page_faults"]),
      syscalls: Number(event["syscalls"]),
      blockBytes: Number(event["block_bytes"] ?? 0),
      netBytes: Number(event["net_sent_bytes"] ?? 0) + Number(event["net_received_bytes"] ?? 0),
    });
  }
  return slots;
}
