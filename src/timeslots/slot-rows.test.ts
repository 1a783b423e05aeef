import { describe, expect, it } from "vitest";
import type { Message } from "../record/index.ts";
import type { Abilities } from "./kernel-side.ts";
import { ProcessNames } from "./process-names.ts";
import { ROW_BYTES, rfc3339, SlotRows } from "./slot-rows.ts";
import { SlotTable, SUM, SUM_COUNT } from "./slot-table.ts";

const ALL: Abilities = {
  counters: new Set(["cycles", "instructions", "cacheMisses"] as const),
  network: true,
  block: true,
};
const NOTHING: Abilities = { counters: new Set(), network: false, block: false };

function rows(count: number, hasCounters = true) {
  const table = new SlotTable();
  for (let process = 1; process <= count; process += 1)
    for (let sum = 0; sum < SUM_COUNT; sum += 1) table.add(process, sum, process * 100 + sum + 0.25);
  const names = new ProcessNames();
  names.tellProcess(1, "node", 7n);
  names.tellCgroup(7n, "/app");
  const all = new SlotRows();
  all.add({ startRealtimeNs: 1_700_000_000_123_000_000n, table, lostEvents: 2, isComplete: false, hasCounters }, names);
  // The table is used again: nothing of it may be looked at later.
  table.clear();
  return all;
}

const messages = (all: SlotRows, abilities = ALL, memory = Buffer.alloc(all.count * ROW_BYTES)): Message[] =>
  all.messages(0, all.count, { memory, firstNumber: 40, slotNs: 1_000_000, abilities });

describe("SlotRows", () => {
  it("makes the event of the product contract, field by field", () => {
    const [message] = messages(rows(1));
    const fields = {
      slot_start: "2023-11-14T22:13:20.123000000Z",
      slot_ns: 1_000_000,
      pid: 1,
      comm: "node",
      cgroup: "/app",
      cpu_ns: 100,
      runqueue_wait_ns: 101,
      context_switches: 102,
      migrations: 103,
      page_faults: 104,
      syscalls: 105,
      block_bytes: 106,
      net_sent_bytes: 107,
      net_received_bytes: 108,
      cycles: 109,
      instructions: 110,
      cache_misses: 111,
      complete: false,
      lost_events: 2,
    };
    expect(message!.number).toBe(40);
    expect(message!.fields).toEqual(fields);
    expect(Object.keys(message!.fields)).toEqual(Object.keys(fields));
    expect(JSON.parse(message!.body.toString())).toEqual(fields);
  });

  it("says null and never 0 where the machine cannot tell", () => {
    const unable = {
      block_bytes: null,
      net_sent_bytes: null,
      net_received_bytes: null,
      cycles: null,
      instructions: null,
      cache_misses: null,
    };
    expect(messages(rows(1), NOTHING)[0]!.fields).toMatchObject(unable);
    // The counters are there, and could not be read in this slot.
    expect(messages(rows(1, false))[0]!.fields).toMatchObject({ cycles: null, instructions: null, cache_misses: null });
    expect(messages(rows(1), { ...NOTHING, counters: new Set(["cycles"] as const) })[0]!.fields).toMatchObject({
      cycles: 109,
      instructions: null,
    });
  });

  it("keeps rows apart in memory of any alignment, and does without any", () => {
    const all = rows(300);
    for (const memory of [Buffer.alloc(300 * ROW_BYTES + 3).subarray(3), Buffer.alloc(0)]) {
      const made = messages(all, ALL, memory);
      expect(made.map(({ fields }) => fields["cpu_ns"])).toEqual(made.map((_, index) => (index + 1) * 100));
    }
    expect(
      all.messages(10, 12, { memory: Buffer.alloc(1000), firstNumber: 0, slotNs: 1, abilities: ALL }),
    ).toMatchObject([{ number: 0 }, { number: 1 }]);
    all.clear();
    expect(all.count).toBe(0);
  });

  it("writes nanoseconds, also of times before today's", () => {
    expect(rfc3339(0n)).toBe("1970-01-01T00:00:00.000000000Z");
    expect(rfc3339(1_700_000_000_000_000_001n)).toBe("2023-11-14T22:13:20.000000001Z");
    expect(SUM.cpuNs).toBe(0);
  });
});
