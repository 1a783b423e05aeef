import type { EventFields, Message } from "../record/index.ts";
import type { Abilities } from "./kernel-side.ts";
import type { ProcessName, ProcessNames } from "./process-names.ts";
import type { CollectedSlot } from "./slot-collector.ts";
import { SUM, SUM_COUNT } from "./slot-table.ts";

/** Numbers of a row: the process, then its sums. */
const ROW_NUMBERS = 1 + SUM_COUNT;

/** Bytes that a row takes while it is in flight: its numbers, and the objects that stand for it. */
export const ROW_BYTES = 192;

const KEPT_NUMBERS = 65_536;

/** What is the same for all rows of a slot. */
interface SlotFacts {
  readonly startRealtimeNs: bigint;
  readonly isComplete: boolean;
  readonly lostEvents: number;
  readonly hasCounters: boolean;
  /** RFC 3339, made when somebody asks. */
  start?: string;
}

/** Rows out of the slots that one look gave: copied, since the tables of the slots are used again. */
export class SlotRows {
  #numbers = new Float64Array(256 * ROW_NUMBERS);
  #slots: SlotFacts[] = [];
  #names: ProcessName[] = [];

  get count(): number {
    return this.#slots.length;
  }

  add(slot: CollectedSlot, names: ProcessNames): void {
    const { table, startRealtimeNs, isComplete, lostEvents, hasCounters } = slot;
    const facts: SlotFacts = { startRealtimeNs, isComplete, lostEvents, hasCounters };
    for (let row = 0; row < table.rows; row += 1) {
      const process = table.process(row);
      const at = this.#slots.length * ROW_NUMBERS;
      if (at + ROW_NUMBERS > this.#numbers.length) {
        const larger = new Float64Array(this.#numbers.length * 2);
        larger.set(this.#numbers);
        this.#numbers = larger;
      }
      this.#numbers[at] = process;
      for (let sum = 0; sum < SUM_COUNT; sum += 1) this.#numbers[at + 1 + sum] = Math.round(table.value(row, sum));
      this.#slots.push(facts);
      this.#names.push(names.of(process));
    }
  }

  /** The rows from `from` to before `to` as messages numbered from `firstNumber` on; their numbers go into `memory`. */
  messages(
    from: number,
    to: number,
    options: {
      readonly memory: Buffer;
      readonly firstNumber: number;
      readonly slotNs: number;
      readonly abilities: Abilities;
    },
  ): Message[] {
    const { memory, firstNumber, slotNs, abilities } = options;
    const numbers = numbersIn(memory, (to - from) * ROW_NUMBERS);
    numbers.set(this.#numbers.subarray(from * ROW_NUMBERS, to * ROW_NUMBERS));
    return Array.from({ length: to - from }, (_, index) => {
      const row = from + index;
      return new SlotMessage(
        firstNumber + index,
        numbers,
        index,
        this.#slots[row]!,
        this.#names[row]!,
        slotNs,
        abilities,
      );
    });
  }

  clear(): void {
    this.#slots = [];
    this.#names = [];
    // What a long stall brought at once is not kept for the next one.
    if (this.#numbers.length > KEPT_NUMBERS) this.#numbers = new Float64Array(KEPT_NUMBERS);
  }
}

/** 64-bit numbers need their alignment, which a slice of a pooled buffer may not have. */
function numbersIn(memory: Buffer, length: number): Float64Array {
  const skip = (8 - (memory.byteOffset % 8)) % 8;
  return skip + length * 8 <= memory.length
    ? new Float64Array(memory.buffer, memory.byteOffset + skip, length)
    : new Float64Array(length);
}

/** One process in one slot. Its event is made only when somebody asks, as with lines; it reads memory of the batch. */
class SlotMessage implements Message {
  readonly number: number;
  readonly #numbers: Float64Array;
  readonly #row: number;
  readonly #slot: SlotFacts;
  readonly #name: ProcessName;
  readonly #slotNs: number;
  readonly #abilities: Abilities;

  constructor(
    number: number,
    numbers: Float64Array,
    row: number,
    slot: SlotFacts,
    name: ProcessName,
    slotNs: number,
    abilities: Abilities,
  ) {
    this.number = number;
    this.#numbers = numbers;
    this.#row = row;
    this.#slot = slot;
    this.#name = name;
    this.#slotNs = slotNs;
    this.#abilities = abilities;
  }

  get body(): Buffer {
    return Buffer.from(JSON.stringify(this.fields));
  }

  get fields(): EventFields {
    const at = this.#row * ROW_NUMBERS;
    const of = (sum: number) => this.#numbers[at + 1 + sum]!;
    const slot = this.#slot;
    const { network, block } = this.#abilities;
    const counters = slot.hasCounters ? this.#abilities.counters : NONE;
    slot.start ??= rfc3339(slot.startRealtimeNs);
    return {
      slot_start: slot.start,
      slot_ns: this.#slotNs,
      pid: this.#numbers[at]!,
      comm: this.#name.comm,
      cgroup: this.#name.cgroup,
      cpu_ns: of(SUM.cpuNs),
      runqueue_wait_ns: of(SUM.runqueueWaitNs),
      context_switches: of(SUM.contextSwitches),
      migrations: of(SUM.migrations),
      page_faults: of(SUM.pageFaults),
      syscalls: of(SUM.syscalls),
      block_bytes: block ? of(SUM.blockBytes) : null,
      net_sent_bytes: network ? of(SUM.netSentBytes) : null,
      net_received_bytes: network ? of(SUM.netReceivedBytes) : null,
      cycles: counters.has("cycles") ? of(SUM.cycles) : null,
      instructions: counters.has("instructions") ? of(SUM.instructions) : null,
      cache_misses: counters.has("cacheMisses") ? of(SUM.cacheMisses) : null,
      complete: slot.isComplete,
      lost_events: slot.lostEvents,
    };
  }
}

const NONE: Abilities["counters"] = new Set();

/** Nanoseconds since the epoch as "2026-01-31T12:00:00.123000000Z". */
export function rfc3339(ns: bigint): string {
  const seconds = new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(ns % 1_000_000_000n).padStart(9, "0")}Z`;
}
