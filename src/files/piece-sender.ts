import type { Sender } from "../channel/index.ts";
import { toError } from "../errors.ts";
import { Batch } from "../record/batch.ts";
import type { Lines } from "../record/lines.ts";
import { Backoff } from "../runtime/backoff.ts";
import { pathToText } from "../runtime/byte-path.ts";
import type { Lease } from "../runtime/memory-budget.ts";
import type { FileState } from "./file-state.ts";
import { tellingMark } from "./fingerprint.ts";
import type { TailerOptions, TailerPayload } from "./tailer-options.ts";
import type { WaitReason } from "./wait-reason.ts";

/**
 * Gives out what was read of one file, and moves its state on with it: what the channel has taken, and nothing else, lies
 * before `state.offset`. The file's entry must be durable by then (`save`).
 */
export class PieceSender {
  readonly #state: FileState;
  readonly #options: TailerOptions;
  readonly #sender: Sender<TailerPayload>;
  readonly #signal: AbortSignal;
  readonly #waits: WaitReason;

  constructor(
    state: FileState,
    options: TailerOptions,
    sender: Sender<TailerPayload>,
    signal: AbortSignal,
    waits: WaitReason,
  ) {
    this.#state = state;
    this.#options = options;
    this.#sender = sender;
    this.#signal = signal;
    this.#waits = waits;
  }

  /**
   * Sends the pieces, which lie one after the other; takes over the lease. `guard`: the bytes before the end of the last
   * one. Rejects as `Sender.send` does: what was not taken is read again.
   */
  async send(pieces: readonly Lines[], lease: Lease, guard: Buffer): Promise<void> {
    const state = this.#state;
    const { counters, clock } = this.#options;
    // Before any of it is out: whatever of it is committed first, the guard covers it.
    state.guards.note({ end: endOf(pieces), mark: tellingMark(guard) });
    // Each batch gives back its own reference.
    for (let extra = 1; extra < pieces.length; extra += 1) lease.retain();
    for (let index = 0; index < pieces.length; index += 1) {
      const piece = pieces[index]!;
      const end = piece.offset + piece.bytes.length;
      const range = state.rangeFrom === undefined ? undefined : { start: state.rangeFrom, end };
      const batch = Batch.ofLines(state.origin, piece, lease, range);
      try {
        if (this.#sender.trySend(batch) !== "sent") {
          await this.#waits.during("the channel: what comes after it is slower", () =>
            this.#sender.send(batch, { signal: this.#signal }),
          );
        }
      } catch (error) {
        // What was not taken is still ours.
        for (let left = index; left < pieces.length; left += 1) lease.release();
        state.guard = Buffer.alloc(0);
        throw error;
      }
      state.rangeFrom = undefined;
      state.offset = end;
      state.resumesAfter = resumesAfter(piece);
      counters.bytes += piece.bytes.length;
      counters.records += piece.count;
    }
    state.guard = guard;
    state.changedAtMs = clock.monotonic();
  }

  /** Makes the entry durable with the guard of the pieces that come first, so that they are known by it from the start. */
  async saveWith(pieces: readonly Lines[], guard: Buffer): Promise<boolean> {
    const end = endOf(pieces);
    this.#state.guards.note({ end, mark: tellingMark(guard) });
    this.#state.guards.settle(end);
    return this.save();
  }

  /** Makes the entry durable; tries until it is, or false when stopped. Dying before it: the file is new again. */
  async save(): Promise<boolean> {
    const { positions, clock, random, notices } = this.#options;
    const state = this.#state;
    const backoff = new Backoff({ initialMs: 100, maxMs: 5000 }, random);
    while (!this.#signal.aborted) {
      try {
        await this.#waits.during("the checkpoint store: its entry is to be durable first", () =>
          positions.save(new Map([[state.key, state.toEntry()]])),
        );
        state.isSaved = true;
        return true;
      } catch (error) {
        notices.unsaved(pathToText(state.path), toError(error));
        await clock.sleep(backoff.next(), { signal: this.#signal });
      }
    }
    return false;
  }

  close(): void {
    this.#sender.close();
  }
}

function endOf(pieces: readonly Lines[]): number {
  const last = pieces[pieces.length - 1]!;
  return last.offset + last.bytes.length;
}

function resumesAfter(piece: Lines): "line" | "cut" | "partial" {
  if (piece.kind === "cut") return "cut";
  return piece.kind === "partial" ? "partial" : "line";
}
