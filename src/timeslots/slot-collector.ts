import type { Btf } from "./btf.ts";
import { type KernelCalls, KernelError } from "./kernel-calls.ts";
import { type Abilities, type CounterEvents, type KernelSide, openKernelSide } from "./kernel-side.ts";
import { Ownership } from "./ownership.ts";
import type { ProcessNames } from "./process-names.ts";
import { runOn } from "./programs.ts";
import { HEADER, HEADER_BYTES, LOSS_SLOTS, lossesAt, STATE, STATE_BYTES } from "./shared-layout.ts";
import { SlotMerger } from "./slot-merger.ts";
import type { SlotTable } from "./slot-table.ts";

export interface CollectorOptions {
  readonly btf: Btf;
  readonly slotNs: number;
  /** A power of two and a multiple of the page. */
  readonly ringBytes: number;
  readonly counterEvents?: CounterEvents;
  readonly pageFaultsBy?: "tracepoint" | "event";
}

/** A slot that is over and in which something was done. */
export interface CollectedSlot {
  /** CLOCK_REALTIME of its start, nanoseconds since the epoch. */
  readonly startRealtimeNs: bigint;
  /** Only good until `emit` returns. */
  readonly table: SlotTable;
  /** Records of the kernel that found the ring full. */
  readonly lostEvents: number;
  /** Nothing of it is missing, as far as can be known. */
  readonly isComplete: boolean;
  /** The counters of the hardware could be read each time. */
  readonly hasCounters: boolean;
}

/** Since the beginning: `begun = taken + lost` whenever nothing is under way and the ring is empty. */
export interface CollectorCounts {
  readonly begun: number;
  readonly taken: number;
  readonly lost: number;
}

/** The two clocks are read by different instructions: a slot is closed a little later than it ends. */
const MARGIN_NS = 20_000;
/** Nobody looked for so many slots: what came meanwhile is skipped, as it would be too much at once. */
const MAX_OPEN_SLOTS = LOSS_SLOTS;
/** The wall clock was set if it is off by more than this. (Slewing moves both clocks alike.) */
const STEP_NS = 100_000n;
const CLOCK_CHECK_NS = 1_000_000_000n;
const CLOCK_TRIES = 5;

/**
 * Time slots, out of the kernel. Everything of it is released by `close`, in reverse order, and goes with the process,
 * however that ends.
 *
 * A look (`collect`):
 *   1. the time, T
 *   2. of each processor: is a record under way? Where one is, slots are closed up to the last time that none was
 *   3. every record in the ring is taken: with 2, all of before T are among them
 *   4. where sums of a slot that is over still lie with a processor whose task goes on, it is asked for them
 *   5. slots that end by T are closed
 */
export class SlotCollector {
  readonly #calls: KernelCalls;
  readonly #owned: Ownership;
  readonly #kernel: KernelSide;
  readonly #slotNs: number;
  readonly #merger: SlotMerger;
  /** CLOCK_REALTIME - CLOCK_MONOTONIC. */
  #epochNs: bigint;
  #clockCheckedNs: bigint;
  /** CLOCK_MONOTONIC of the merger's zero. */
  #baseNs: bigint;
  /** Up to when no record was under way on each processor; since the base. */
  readonly #quietNs: Float64Array;
  /** Of what the kernel counts, what was seen before: losses by slot, and by processor. */
  readonly #seenLosses = new Uint32Array(LOSS_SLOTS);
  readonly #seenLost: BigUint64Array;
  /** Losses in slots of which there is nothing else to tell: they go with the next one. */
  #untoldLosses = 0;
  /** Slots that start up to here are incomplete; since the base. */
  #incompleteToNs = Number.NEGATIVE_INFINITY;
  /** When the programs were detached; since the base. */
  #endNs = Number.POSITIVE_INFINITY;
  #counterErrors = 0n;
  #taken = 0;
  #fill = 0;

  /**
   * Opens everything; what was done is taken back if a part of it fails.
   * @throws BtfError, VerifierError, KernelError
   */
  constructor(calls: KernelCalls, options: CollectorOptions) {
    const { slotNs } = options;
    const owned = new Ownership();
    this.#calls = calls;
    this.#owned = owned;
    this.#slotNs = slotNs;
    this.#epochNs = compareClocks(calls) ?? calls.realtimeNs() - calls.monotonicNs();
    this.#clockCheckedNs = calls.monotonicNs();
    this.#kernel = owned.orRelease(() =>
      openKernelSide(calls, owned, { ...options, edgeOffsetNs: modulo(this.#epochNs, slotNs) }),
    );
    const { processors, abilities } = this.#kernel;
    this.#quietNs = new Float64Array(processors);
    this.#seenLost = new BigUint64Array(processors);
    // The first whole slot from now on.
    this.#baseNs = this.#edgeAfter(calls.monotonicNs());
    const hasCounters = abilities.counters.size > 0;
    this.#merger = new SlotMerger({ slotNs, processors, hasCounters, baseNs: this.#baseNs });
    owned.orRelease(() => {
      for (let processor = 0; processor < processors; processor += 1) this.#ask(processor);
    });
  }

  get abilities(): Abilities {
    return this.#kernel.abilities;
  }

  get names(): ProcessNames {
    return this.#merger.names;
  }

  /** How full the last look found the ring, a fraction of 1. */
  get fill(): number {
    return this.#fill;
  }

  /** @throws Error once closed */
  counts(): CollectorCounts {
    const states = this.#states();
    let begun = 0n;
    let lost = 0n;
    for (let processor = 0; processor < this.#kernel.processors; processor += 1) {
      begun += Atomics.load(states, indexOf(processor, STATE.begun));
      lost += Atomics.load(states, indexOf(processor, STATE.lost));
    }
    return { begun: Number(begun), lost: Number(lost), taken: this.#taken };
  }

  /**
   * Takes what is in the ring and hands on the slots that are over, in order. Never waits.
   * @returns how many slots were skipped, as nobody looked for too long
   * @throws Error once closed
   */
  collect(emit: (slot: CollectedSlot) => void): number {
    const states = this.#states();
    const nowNs = this.#calls.monotonicNs();
    const now = Number(nowNs - this.#baseNs);
    const skipped = this.#skipTo(now);
    const quietNs = Math.min(this.#quietSince(states, now - MARGIN_NS), this.#endNs);
    const { reader } = this.#kernel.ring;
    this.#fill = reader.pendingBytes / reader.sizeBytes;
    // A record that is still being written hides those behind it: then nothing is closed before the next look.
    const closeNs = this.#drain() ? quietNs : this.#merger.closedToNs;
    const hadLosses = this.#noteLosses(states);
    this.#askWhereNeeded(states, Math.floor(closeNs / this.#slotNs) * this.#slotNs);
    if (this.#noteLosses(states) || hadLosses || !this.#areAllKnown())
      this.#incompleteToNs = Number(this.#calls.monotonicNs() - this.#baseNs);
    this.#close(closeNs, this.#couldCount(states), emit);
    this.#followClock(nowNs);
    return skipped;
  }

  /** From now on the kernel tells nothing new; what it has told can still be collected. */
  detach(): void {
    this.#endNs = Math.min(this.#endNs, Number(this.#calls.monotonicNs() - this.#baseNs));
    this.#kernel.detach();
  }

  /** Detaches and gives everything back. @throws the first error of it, after all of it was tried */
  close(): void {
    this.#owned.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Whether the counters of the hardware were read without an error since the last look. */
  #couldCount(states: BigUint64Array): boolean {
    let errors = 0n;
    for (let processor = 0; processor < this.#kernel.processors; processor += 1)
      errors += Atomics.load(states, indexOf(processor, STATE.counterErrors));
    const couldCount = errors === this.#counterErrors;
    this.#counterErrors = errors;
    return couldCount;
  }

  #close(closeNs: number, hasCounters: boolean, emit: (slot: CollectedSlot) => void): void {
    const losses = new Uint32Array(this.#kernel.shared.bytes, lossesAt(this.#kernel.processors), LOSS_SLOTS);
    // As the kernel numbers slots.
    const firstNumber = (this.#baseNs + modulo(this.#epochNs, this.#slotNs)) / BigInt(this.#slotNs);
    const first = Number(firstNumber % BigInt(LOSS_SLOTS));
    this.#merger.close(closeNs, ({ startNs, table }) => {
      const index = (first + startNs / this.#slotNs) % LOSS_SLOTS;
      const lost = Atomics.load(losses, index);
      this.#untoldLosses += (lost - this.#seenLosses[index]!) >>> 0;
      this.#seenLosses[index] = lost;
      if (table === undefined) return;
      const lostEvents = this.#untoldLosses;
      this.#untoldLosses = 0;
      const isComplete = lostEvents === 0 && startNs > this.#incompleteToNs;
      const startRealtimeNs = this.#baseNs + BigInt(startNs) + this.#epochNs;
      emit({ startRealtimeNs, table, lostEvents, isComplete, hasCounters });
    });
  }

  /** Hands all records in the ring to the merger; false if it came to one that is being written. */
  #drain(): boolean {
    const { reader } = this.#kernel.ring;
    const merger = this.#merger;
    let taken = 0;
    try {
      return reader.drain((word) => {
        taken += 1;
        merger.take(reader, word);
      });
    } finally {
      this.#taken += taken;
    }
  }

  /** The time up to which every processor has put all its records into the ring. */
  #quietSince(states: BigUint64Array, now: number): number {
    let quietNs = now;
    for (let processor = 0; processor < this.#kernel.processors; processor += 1) {
      // In this order: whatever begins after the first look is later than `now`.
      const begun = Atomics.load(states, indexOf(processor, STATE.begun));
      const through = Atomics.load(states, indexOf(processor, STATE.through));
      if (through >= begun) this.#quietNs[processor] = now;
      quietNs = Math.min(quietNs, this.#quietNs[processor]!);
    }
    return quietNs;
  }

  /** Where records of a processor were lost, what runs on it is in doubt; true if there were any. */
  #noteLosses(states: BigUint64Array): boolean {
    let hasLosses = false;
    for (let processor = 0; processor < this.#kernel.processors; processor += 1) {
      const lost = Atomics.load(states, indexOf(processor, STATE.lost));
      if (lost === this.#seenLost[processor]) continue;
      this.#seenLost[processor] = lost;
      this.#merger.doubt(processor);
      hasLosses = true;
    }
    return hasLosses;
  }

  /** Asks the processors of which it is not known what runs there, and those that keep sums of a slot that is over. */
  #askWhereNeeded(states: BigUint64Array, edgeNs: number): void {
    let hasAsked = false;
    for (let processor = 0; processor < this.#kernel.processors; processor += 1) {
      const isNeeded =
        !this.#merger.isKnown(processor) ||
        this.#merger.hasUnclaimedCounters(processor, edgeNs) ||
        this.#hasOldSums(states, processor, this.#baseNs + BigInt(edgeNs));
      if (!isNeeded) continue;
      this.#ask(processor);
      hasAsked = true;
    }
    if (hasAsked) this.#drain();
  }

  #hasOldSums(states: BigUint64Array, processor: number, edgeNs: bigint): boolean {
    const of = (field: number) => Atomics.load(states, indexOf(processor, field));
    const hasSums =
      (of(STATE.syscalls) |
        of(STATE.hasFaults) |
        of(STATE.blockBytes) |
        of(STATE.sentBytes) |
        of(STATE.receivedBytes)) !==
      0n;
    return hasSums && of(STATE.slotEndNs) <= edgeNs;
  }

  #ask(processor: number): void {
    try {
      runOn(this.#calls, this.#kernel.sums, processor);
    } catch (error) {
      if (!(error instanceof KernelError) || error.reason !== "ENXIO") throw error;
      // Offline. Once it is there, its first record says what runs on it.
      this.#merger.isAbsent(processor);
    }
  }

  #areAllKnown(): boolean {
    for (let processor = 0; processor < this.#kernel.processors; processor += 1)
      if (!this.#merger.isKnown(processor)) return false;
    return true;
  }

  #skipTo(now: number): number {
    const behind = Math.floor((now - this.#merger.closedToNs) / this.#slotNs);
    if (behind <= MAX_OPEN_SLOTS) return 0;
    this.#merger.skip(now);
    const losses = new Uint32Array(this.#kernel.shared.bytes, lossesAt(this.#kernel.processors), LOSS_SLOTS);
    this.#seenLosses.set(losses);
    // What is left of the ring is of the time that was skipped, in part: the next slot has a part of it only.
    this.#incompleteToNs = now;
    return behind;
  }

  /** Once a second: where the wall clock was set, slots get its edges from now on. */
  #followClock(nowNs: bigint): void {
    if (nowNs - this.#clockCheckedNs < CLOCK_CHECK_NS) return;
    this.#clockCheckedNs = nowNs;
    const epochNs = compareClocks(this.#calls);
    if (epochNs === undefined) return;
    const stepNs = epochNs - this.#epochNs;
    if (stepNs < STEP_NS && stepNs > -STEP_NS) return;
    this.#epochNs = epochNs;
    const header = new BigUint64Array(this.#kernel.shared.bytes, 0, HEADER_BYTES / 8);
    Atomics.store(header, HEADER.edgeOffsetNs / 8, modulo(epochNs, this.#slotNs));
    const baseNs = this.#edgeAfter(this.#baseNs + BigInt(this.#merger.closedToNs) - 1n);
    const shiftNs = Number(this.#baseNs - baseNs);
    this.#merger.rebase(baseNs);
    this.#baseNs = baseNs;
    for (const [processor, quietNs] of this.#quietNs.entries()) this.#quietNs[processor] = quietNs + shiftNs;
    this.#incompleteToNs += shiftNs;
    this.#endNs += shiftNs;
  }

  /** The first edge of a slot after a moment; CLOCK_MONOTONIC. */
  #edgeAfter(momentNs: bigint): bigint {
    const slotNs = BigInt(this.#slotNs);
    return ((momentNs + this.#epochNs) / slotNs + 1n) * slotNs - this.#epochNs;
  }

  /** Made anew for each look: a view must not outlive its memory. */
  #states(): BigUint64Array {
    const { shared, processors } = this.#kernel;
    return new BigUint64Array(shared.bytes, HEADER_BYTES, (processors * STATE_BYTES) / 8);
  }
}

function indexOf(processor: number, field: number): number {
  return (processor * STATE_BYTES + field) / 8;
}

function modulo(valueNs: bigint, slotNs: number): bigint {
  const rest = valueNs % BigInt(slotNs);
  return rest < 0n ? rest + BigInt(slotNs) : rest;
}

/** CLOCK_REALTIME - CLOCK_MONOTONIC, from the quickest of some looks; undefined if none was quick. */
function compareClocks(calls: KernelCalls): bigint | undefined {
  let best: { readonly tookNs: bigint; readonly epochNs: bigint } | undefined;
  for (let turn = 0; turn < CLOCK_TRIES; turn += 1) {
    const before = calls.monotonicNs();
    const realtime = calls.realtimeNs();
    const tookNs = calls.monotonicNs() - before;
    if (best === undefined || tookNs < best.tookNs) best = { tookNs, epochNs: realtime - before - tookNs / 2n };
  }
  return best !== undefined && best.tookNs < STEP_NS / 2n ? best.epochNs : undefined;
}
