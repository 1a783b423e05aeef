import { z } from "zod";
import type { Receiver, Sender } from "../channel/index.ts";
import { StageError, toError } from "../errors.ts";
import { Batch, Messages } from "../record/index.ts";
import { type Origin, streamOrigin } from "../record/origin.ts";
import type { Source, SourceContext } from "../stage/contract.ts";
import { defineSource } from "../stage/define.ts";
import {
  checkTimeSlots,
  explainRefusal,
  loadKernelCalls,
  ROW_BYTES,
  readBtf,
  SlotCollector,
  SlotRows,
} from "../timeslots/index.ts";

const options = z.strictObject({
  slot_ms: z
    .int()
    .min(1)
    .max(1000)
    .default(1)
    .describe("Length of a slot, milliseconds; slots are aligned to the clock."),
  ring_bytes: z
    .int()
    .min(65_536)
    .max(1_073_741_824)
    .default(8_388_608)
    .refine((bytes) => Number.isInteger(Math.log2(bytes)), "must be a power of two, such as 8388608")
    .describe("The kernel's ring buffer, a power of two. What finds it full is lost, counted, and said in its slot."),
});

/**
 * How soon the ring is looked at again, milliseconds, by how full the last look found it (fractions of 1): every look costs
 * an idle machine a little, and what may come meanwhile must fit the ring.
 */
const LOOKS: readonly { readonly aboveFill: number; readonly afterMs: number }[] = [
  { aboveFill: 1 / 8, afterMs: 1 },
  { aboveFill: 1 / 64, afterMs: 25 },
  { aboveFill: 1 / 512, afterMs: 100 },
  { aboveFill: -1, afterMs: 200 },
];
/** Losses are reported this often at most. */
const REPORT_MS = 1000;
/** A batch takes a small piece of the budget, so that dropping one drops little. */
const MAX_ROWS = 160;

/** A ring is mapped twice in a row, and counts as often. */
const RING_MAPPINGS = 2;
/** The kernel's types while they are read (45 MiB seen), then tables of open slots and what is known of tasks. */
const COLLECTOR_BYTES = 64 * 1024 * 1024;

/** What every process did in each time slot, out of the kernel. A slot cannot be replayed. */
export const timeslotsSource = defineSource({
  type: "timeslots",
  summary: "What each process did in each millisecond, from eBPF in the kernel; needs CAP_BPF and CAP_PERFMON.",
  replay: "fleeting",
  output: { overflow: "drop_newest", unit: "time slots" },
  options,
  memoryBytes: ({ ring_bytes: ringBytes }) => RING_MAPPINGS * ringBytes + COLLECTOR_BYTES,
  checkPrivilege: () => checkTimeSlots(loadKernelCalls),
  probe: () => checkTimeSlots(loadKernelCalls),
  async open({ slot_ms: slotMs, ring_bytes: ringBytes }, context) {
    const calls = await loadKernelCalls();
    try {
      return new TimeSlotsSource(
        new SlotCollector(calls, { btf: readBtf(), slotNs: slotMs * 1_000_000, ringBytes }),
        slotMs,
        context,
      );
    } catch (error) {
      throw new StageError("TR_STAGE_OPEN", context.name, explainRefusal(error), { cause: error });
    }
  },
});

/** The part of a collector that the source uses. */
export type Collecting = Pick<
  SlotCollector,
  "abilities" | "names" | "fill" | "collect" | "counts" | "detach" | "close"
>;

/** @internal The source over any collector, so that tests can drop and fail. */
export class TimeSlotsSource implements Source {
  readonly output: Receiver<Batch>;
  readonly #sender: Sender<Batch>;
  readonly #collector: Collecting;
  readonly #slotMs: number;
  readonly #context: SourceContext;
  readonly #origin: Origin;
  readonly #rows = new SlotRows();
  #number = 0;
  /** Records of the kernel that were lost, as far as they were reported; and when the next report is due. */
  #reportedLost = 0;
  #reportAtMs: number;
  #isClosed = false;

  constructor(collector: Collecting, slotMs: number, context: SourceContext) {
    this.#collector = collector;
    this.#slotMs = slotMs;
    this.#context = context;
    // Each run is a stream of its own: numbers start again at 0, and record ids must not.
    this.#origin = streamOrigin("fleeting", context.name, `timeslots:${context.random.hex(16)}`);
    this.#reportAtMs = context.clock.monotonic() + REPORT_MS;
    const { sender, receiver } = context.channel();
    this.#sender = sender;
    this.output = receiver;
  }

  /** With `once` it ends at once: no slot is there before somebody looks. */
  async run({ signal, once }: { signal: AbortSignal; once: boolean }): Promise<void> {
    const { clock, name } = this.#context;
    try {
      while (!once && !signal.aborted && !this.#sender.isClosed) {
        this.#look();
        await clock.sleep(lookAgainMs(this.#collector.fill), { signal });
      }
      // What was over before the stop is told.
      this.#collector.detach();
      if (!once && !this.#sender.isClosed) this.#look();
      this.#reportLost();
    } catch (error) {
      throw new StageError("TR_STAGE_FAILED", name, `cannot read time slots: ${toError(error).message}`, {
        cause: error,
      });
    } finally {
      this.#sender.close();
      this.#release();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#sender.close();
    this.#release();
  }

  #look(): void {
    const skipped = this.#collector.collect((slot) => this.#rows.add(slot, this.#collector.names));
    if (skipped > 0)
      this.#context.log.warn(
        { skipped_slots: skipped },
        `nobody looked at the time slots for ${skipped * this.#slotMs} ms; those are missing`,
      );
    for (let from = 0; from < this.#rows.count; from += MAX_ROWS)
      this.#send(from, Math.min(from + MAX_ROWS, this.#rows.count));
    this.#rows.clear();
    if (this.#context.clock.monotonic() < this.#reportAtMs) return;
    this.#reportAtMs += REPORT_MS;
    this.#reportLost();
  }

  #reportLost(): void {
    const { lost } = this.#collector.counts();
    const count = lost - this.#reportedLost;
    if (count === 0) return;
    this.#reportedLost = lost;
    this.#context.log.warn(
      { lost_events: count },
      `Lost ${count} kernel events of time slots: the ring was full, and the slots say so; make ring_bytes larger`,
    );
  }

  #send(from: number, to: number): void {
    const { budget, clock, host } = this.#context;
    const firstNumber = this.#number;
    const count = to - from;
    this.#number += count;
    const byteLength = count * ROW_BYTES;
    // Never waits: where there is no memory, the slots are dropped like those that find the channel full.
    const lease = budget.tryLease(byteLength);
    const messages = this.#rows.messages(from, to, {
      memory: lease?.buffer ?? Buffer.alloc(0),
      firstNumber,
      slotNs: this.#slotMs * 1_000_000,
      abilities: this.#collector.abilities,
    });
    const batch = Batch.ofMessages(
      this.#origin,
      new Messages(messages, { readAtMs: clock.now(), host }),
      { start: firstNumber, end: firstNumber + count },
      byteLength,
      lease,
    );
    if (lease === undefined) this.#sender.drop(batch);
    else if (this.#sender.trySend(batch) !== "sent") lease.release();
  }

  #release(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#collector.close();
  }
}

function lookAgainMs(fill: number): number {
  return LOOKS.find(({ aboveFill }) => fill > aboveFill)!.afterMs;
}
