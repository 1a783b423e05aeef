import type { Sender } from "../channel/index.ts";
import { LineFramer } from "../codec/line-framer.ts";
import { ChannelClosedError, toError } from "../errors.ts";
import { Batch } from "../record/batch.ts";
import type { Lines } from "../record/lines.ts";
import { Backoff } from "../runtime/backoff.ts";
import { pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { Lease } from "../runtime/memory-budget.ts";
import { type Content, readFully, UNKNOWN_SIZE } from "./content.ts";
import {
  growFingerprint,
  hasGuard,
  hasShrunk,
  holeLength,
  learnFingerprint,
  proveContent,
  sizeSeen,
} from "./content-proof.ts";
import type { FileState } from "./file-state.ts";
import { contentMark, GUARD_BYTES } from "./fingerprint.ts";
import type { Ending, TailerEnd, TailerOptions, TailerPayload } from "./tailer-options.ts";
import { WakeSignal } from "./wake-signal.ts";

type ReadOutcome = "more" | "end" | "truncated" | "stopped";

/**
 * Reads one file from `state.offset` on and sends what it reads, in order.
 *
 *              +---------------------- woken: grown, or a timer ----------------------+
 *              v                                                                      |
 *     open -> read -> (verify guard, fstat) -> frame -> save entry -> send -> ... -> end of content
 *              |             |                                                        |
 *            failed      truncated                                     quiet long enough, or `at_end`: finished
 *
 * Each read starts up to 256 bytes before the offset, and these must be what was there before: one pread, so that the
 * proof and the new bytes are of one moment. The fstat after it tells a truncation that came in between: a size below
 * the end just read means that the bytes may be of two contents, and they are thrown away.
 *
 * No bytes are kept between reads: an unfinished line is read again with what follows it. That costs a copy out of the
 * page cache, and a file that waits for its next line holds no memory.
 */
export class Tailer {
  readonly state: FileState;
  readonly #options: TailerOptions;
  readonly #sender: Sender<TailerPayload>;
  readonly #signal: AbortSignal;
  #content: Content | undefined;
  #framer!: LineFramer;
  /** Size at the last fstat; undefined: ask again before reading. */
  #size: number | undefined;
  /** Bytes to read at once; grows while a line is longer. */
  #want: number;
  #ending: Ending;
  /** With `at_end` on a file that grows for ever: the size when reading began is the end. */
  #limit: number | undefined;
  #endMark: number | "unset" | undefined;
  #isReleased: boolean;
  readonly #wakes: WakeSignal;
  #isIdle = false;
  #waitsFor: string | undefined;

  constructor(
    state: FileState,
    options: TailerOptions,
    sender: Sender<TailerPayload>,
    signal: AbortSignal,
    start: { readonly ending: Ending; readonly isHeld: boolean },
  ) {
    this.state = state;
    this.#options = options;
    this.#sender = sender;
    this.#signal = signal;
    this.#wakes = new WakeSignal(options.clock, signal);
    this.#ending = start.ending;
    this.#isReleased = !start.isHeld;
    this.#want = options.maxBatchBytes;
  }

  /** It holds the content open. */
  get isOpen(): boolean {
    return this.#content !== undefined;
  }

  /** At the end of the content, waiting for more. */
  get isIdle(): boolean {
    return this.#isIdle;
  }

  /** It has its file open, and waits for another to be read first. */
  get isHeld(): boolean {
    return !this.#isReleased;
  }

  /** What keeps it from reading on, in plain words; undefined: nothing. */
  get waitsFor(): string | undefined {
    if (this.isHeld) return "an older file of the same path is read first";
    return this.#isIdle ? "more data: it is read to its end" : this.#waitsFor;
  }

  /** The file may have changed. */
  wake(): void {
    this.#wakes.wake();
  }

  /** One that was started held has its file open, and begins to read now. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.wake();
  }

  /** From now on it ends by itself. */
  end(ending: Ending): void {
    this.#ending = ending;
    this.wake();
  }

  /** Calls `onCaughtUp` once everything has been sent that is there now. */
  markEnd(): void {
    this.#endMark = "unset";
    this.wake();
  }

  /** An end was marked and has not been reached: whoever reads on must tell. */
  get hasEndMark(): boolean {
    return this.#endMark !== undefined;
  }

  /** Runs until it ends; never rejects. The sender is closed then, and so is the file. */
  async run(): Promise<TailerEnd> {
    try {
      const opened = await this.#open();
      if (opened !== "ready") return { kind: opened };
      while (!this.#isReleased && !this.#signal.aborted) await this.#wakes.wait(undefined);
      // It may have grown, or shrunk, while it was held.
      this.#size = undefined;
      for (;;) {
        if (this.#signal.aborted) return { kind: "stopped" };
        if (!this.#options.positions.hasRoom(this.state.key)) {
          const { positions } = this.#options;
          await this.#waiting("sinks: too many of its batches have ended out of order or not at all", () =>
            positions.roomFor(this.state.key, { signal: this.#signal }),
          );
          continue;
        }
        const outcome = await this.#read();
        if (outcome === "stopped" || outcome === "truncated") return { kind: outcome };
        if (outcome === "end" && (await this.#atEnd())) return { kind: "finished" };
      }
    } catch (error) {
      if (error instanceof ChannelClosedError || this.#signal.aborted) return { kind: "stopped" };
      if (error instanceof ContentChanged) return { kind: "truncated" };
      return { kind: "failed", error: toError(error) };
    } finally {
      this.#sender.close();
      await this.#content?.close().catch(() => undefined);
    }
  }

  // ------------------------------------------------------------ opening

  async #open(): Promise<"ready" | "moved" | "truncated"> {
    const { state } = this;
    const { positions, maxLineBytes, delimiter, encoding, host } = this.#options;
    this.#content = await this.#options.open(state);
    if (this.#content === undefined) return "moved";
    const seen = sizeSeen(this.state);
    const stat = await this.#content.stat();
    if (state.startAt !== undefined) {
      state.offset = Math.min(state.startAt, stat.size);
      state.start = state.offset;
      state.readEnd = state.offset;
      state.rangeFrom = state.offset > 0 ? 0 : undefined;
      state.startAt = undefined;
    }
    if (stat.size < state.offset || hasShrunk(state, stat, seen)) return "truncated";
    if (!(await proveContent(state, this.#content))) return "truncated";
    this.#takeStat(stat);
    if (state.start > 0 && !state.isSaved) {
      await growFingerprint(state, this.#content);
      // Where reading begins must survive, or a restart would begin elsewhere.
      if (!(await this.#save())) return "truncated";
    }
    if (state.generation > 0 && state.offset === 0 && stat.size > 0) await this.#skipHole(this.#content, stat.size);
    if (this.#ending === "at_end" && stat.size !== UNKNOWN_SIZE) this.#limit = stat.size;
    const stored = positions.boundariesOf(state.key);
    this.#framer = new LineFramer({
      delimiter,
      maxLineBytes,
      encoding,
      host,
      boundaries: [...new Set([...stored, ...state.boundaries])].sort((a, b) => a - b),
      start: state.offset,
      resumesAfter: this.#whatPrecedes(),
    });
    return "ready";
  }

  #whatPrecedes(): "line" | "cut" | "partial" {
    const { state } = this;
    if (state.resumesAfter !== undefined) return state.resumesAfter;
    if (state.offset === 0 || state.offset === state.start) return "line";
    if (state.boundaries.includes(state.offset)) return "partial";
    const { delimiter } = this.#options;
    const tail = state.guard.subarray(Math.max(0, state.guard.length - delimiter.length));
    return tail.equals(delimiter) ? "line" : "cut";
  }

  /**
   * A writer that does not append goes on at its old offset after a truncation: the file then begins with a hole, which
   * reads as NUL bytes that nobody wrote.
   */
  async #skipHole(content: Content, size: number): Promise<void> {
    const { state } = this;
    const { events, counters, maxBatchBytes } = this.#options;
    const bytes = await holeLength(content, size, maxBatchBytes);
    // Nothing but NUL bytes: perhaps the data is yet to come. It is looked at again when there is more.
    if (bytes === 0 || bytes >= size) return;
    state.start = bytes;
    state.offset = bytes;
    state.readEnd = bytes;
    state.rangeFrom = 0;
    state.guard = Buffer.alloc(Math.min(GUARD_BYTES, bytes));
    await growFingerprint(state, content);
    // Durable first, so that a replay skips the same bytes.
    await this.#save();
    counters.holeBytes += bytes;
    const file = pathToText(state.path);
    const message = `${file} starts with a hole of ${bytes} bytes after its truncation; skipped`;
    events.emit("hole_skipped", message, { file, bytes });
  }

  // ------------------------------------------------------------ reading

  async #read(): Promise<ReadOutcome> {
    const { state } = this;
    const { budget, clock, counters } = this.#options;
    const content = this.#content!;
    if (this.#size === undefined) {
      const seen = sizeSeen(state);
      const stat = await content.stat();
      if (hasShrunk(state, stat, seen)) return "truncated";
      this.#takeStat(stat);
    }
    const size = this.#limit === undefined ? this.#size! : Math.min(this.#size!, this.#limit);
    if (this.#size! < state.offset) return "truncated";
    if (size <= state.readEnd) {
      // A shorter unfinished line: what was read of it was never given out.
      state.readEnd = size;
      return (await hasGuard(state, content)) ? this.#reachedEnd() : "truncated";
    }
    const guardBytes = state.guard.length;
    // The guard counts into the batch size, so that the buffer is one of the pool.
    const wanted = Math.min(size - state.offset, Math.max(1, this.#want - guardBytes));
    const total = guardBytes + wanted;
    const lease = await this.#waiting("memory: the in-flight budget is used up", () =>
      budget.lease(total, { signal: this.#signal }),
    );
    if (lease === undefined) return "stopped";
    let isOurs = true;
    try {
      const bufferStart = state.offset - guardBytes;
      const count = await this.#pread(content, lease.buffer, total, bufferStart, guardBytes);
      const readAtMs = clock.now();
      const seen = sizeSeen(state);
      const stat = await content.stat();
      const end = bufferStart + count;
      if (
        count < guardBytes ||
        stat.size < end ||
        hasShrunk(state, stat, seen) ||
        !startsWith(lease.buffer, state.guard)
      )
        return "truncated";
      this.#takeStat(stat);
      if (count === guardBytes && wanted > 0 && stat.size > state.offset && stat.size !== UNKNOWN_SIZE) {
        // The size promises bytes that cannot be read (a file system that lags behind): not a reason to spin.
        await clock.sleep(10, { signal: this.#signal });
        return "more";
      }
      if (end > state.readEnd) {
        state.readEnd = end;
        state.changedAtMs = clock.monotonic();
      }
      if (!(await learnFingerprint(state, content, lease.buffer, count, bufferStart))) return "truncated";
      const cutBefore = this.#framer.cutLines;
      const pieces = this.#framer.frame(lease.buffer, guardBytes, count, readAtMs);
      counters.cutLines += this.#framer.cutLines - cutBefore;
      if (pieces.length === 0) {
        // The whole stretch is one unfinished line: more of it is needed at once.
        if (count === total) this.#want = Math.min(this.#want * 2, this.#longestRead());
        return this.#isAtEnd() ? this.#reachedEnd() : "more";
      }
      this.#want = pieces.some((piece) => piece.kind === "whole") ? this.#options.maxBatchBytes : this.#want;
      if (!state.isSaved && !(await this.#save())) return "stopped";
      isOurs = false;
      const guard = guardBefore(lease.buffer, guardBytes + (this.#framer.offset - state.offset));
      if (!(await this.#send(pieces, lease, guard))) return "stopped";
      // A file that grows for ever has an end as of then too.
      if (typeof this.#endMark === "number" && state.offset >= this.#endMark) this.#tellCaughtUp();
      return this.#isAtEnd() ? this.#reachedEnd() : "more";
    } finally {
      if (isOurs) lease.release();
    }
  }

  /** One pread; more only where it came back shorter than the guard and one byte. */
  async #pread(content: Content, into: Buffer, total: number, offset: number, guardBytes: number): Promise<number> {
    let count = await content.read(into, 0, total, offset);
    while (count > 0 && count <= guardBytes && count < total) {
      const more = await content.read(into, count, total - count, offset + count);
      if (more === 0) break;
      count += more;
    }
    return count;
  }

  /** Room for the longest line, so that the framer always gets on. */
  #longestRead(): number {
    const { maxLineBytes, delimiter } = this.#options;
    return GUARD_BYTES + maxLineBytes + 2 * delimiter.length + 8;
  }

  #takeStat(stat: FileStat): void {
    this.#size = stat.size;
    if (this.#endMark === "unset") this.#endMark = stat.size;
    if (stat.size !== UNKNOWN_SIZE) this.state.size = stat.size;
  }

  #isAtEnd(): boolean {
    const { state } = this;
    if (this.#limit !== undefined && state.offset >= this.#limit) return true;
    return state.readEnd >= (this.#limit === undefined ? this.#size! : Math.min(this.#size!, this.#limit));
  }

  /** Whatever was there when the end was marked has been read, also where the file became shorter since. */
  #reachedEnd(): ReadOutcome {
    if (typeof this.#endMark === "number") this.#tellCaughtUp();
    return "end";
  }

  #tellCaughtUp(): void {
    this.#endMark = undefined;
    this.#options.onCaughtUp(this.state);
  }

  // ------------------------------------------------------------ sending

  /** Sends the pieces; takes over the lease. `guard`: the bytes before the end of the last piece. */
  async #send(pieces: readonly Lines[], lease: Lease, guard: Buffer): Promise<boolean> {
    const { state } = this;
    const { counters, clock } = this.#options;
    // Each batch gives back its own reference.
    for (let extra = 1; extra < pieces.length; extra += 1) lease.retain();
    for (let index = 0; index < pieces.length; index += 1) {
      const piece = pieces[index]!;
      const end = piece.offset + piece.bytes.length;
      const range = state.rangeFrom === undefined ? undefined : { start: state.rangeFrom, end };
      const batch = Batch.ofLines(state.origin, piece, lease, range);
      try {
        if (this.#sender.trySend(batch) !== "sent") {
          await this.#waiting("the channel: what comes after it is slower", () =>
            this.#sender.send(batch, { signal: this.#signal }),
          );
        }
      } catch (error) {
        // What was not taken is still ours; it is read again.
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
    state.noteMark(state.offset, contentMark(guard));
    state.changedAtMs = clock.monotonic();
    return true;
  }

  /** Makes the entry durable; tries until it is, or false when stopped. Dying before it: the file is new again. */
  async #save(): Promise<boolean> {
    const { positions, clock, random, notices } = this.#options;
    const { state } = this;
    const backoff = new Backoff({ initialMs: 100, maxMs: 5000 }, random);
    while (!this.#signal.aborted) {
      try {
        await this.#waiting("the checkpoint store: its entry is to be durable first", () =>
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

  // ------------------------------------------------------------ at the end

  /** Waits at the end of the content; true: nothing more will come, and all was sent. */
  async #atEnd(): Promise<boolean> {
    const { state } = this;
    const { clock, partialLineTimeoutMs, rotateWaitMs } = this.#options;
    if (this.#ending === "at_end") return this.#finish(state.phase === "live" ? "partial" : "partial_end");
    const quietMs = clock.monotonic() - state.changedAtMs;
    const hasPartial = state.readEnd > state.offset;
    let waitMs: number | undefined;
    if (this.#ending === "when_quiet") {
      if (quietMs >= rotateWaitMs) return this.#finish("partial_end");
      waitMs = rotateWaitMs - quietMs;
    } else if (partialLineTimeoutMs > 0 && hasPartial) {
      if (quietMs >= partialLineTimeoutMs) {
        await this.#deliverUnfinished("partial");
        return false;
      }
      waitMs = partialLineTimeoutMs - quietMs;
    }
    this.#isIdle = true;
    this.#options.onIdle(state);
    await this.#wakes.wait(waitMs);
    this.#isIdle = false;
    this.#size = undefined;
    return false;
  }

  async #finish(kind: "partial" | "partial_end"): Promise<boolean> {
    await this.#deliverUnfinished(kind);
    return !this.#signal.aborted;
  }

  /**
   * Delivers the unfinished line as it is. Where it is cut depends on when, so the cut is made durable before it is
   * delivered: a replay cuts there too, and what comes later is a record of its own.
   */
  async #deliverUnfinished(kind: "partial" | "partial_end"): Promise<void> {
    const { state } = this;
    const { budget, clock, counters } = this.#options;
    const content = this.#content!;
    const guardBytes = state.guard.length;
    const total = guardBytes + (state.readEnd - state.offset);
    const lease = await budget.lease(total, { signal: this.#signal });
    if (lease === undefined) return;
    let isOurs = true;
    try {
      const count = await readFully(content, lease.buffer, 0, total, state.offset - guardBytes);
      const stat = await content.stat();
      if (count < total || stat.size < state.readEnd || !startsWith(lease.buffer, state.guard))
        throw new ContentChanged();
      const readAtMs = clock.now();
      const from = state.offset;
      const cutBefore = this.#framer.cutLines;
      const pieces = this.#framer.frame(lease.buffer, guardBytes, count, readAtMs);
      counters.cutLines += this.#framer.cutLines - cutBefore;
      const framed = guardBytes + (this.#framer.offset - from);
      const rest = this.#framer.cutPartial(lease.buffer, framed, count, readAtMs, kind);
      if (rest !== undefined) {
        for (let index = 0; index < rest.count; index += 1) {
          const boundary = rest.endOf(index);
          if (!state.boundaries.includes(boundary)) state.boundaries.push(boundary);
        }
        pieces.push(rest);
      }
      if (pieces.length === 0) return;
      if (!(await this.#save())) return;
      isOurs = false;
      await this.#send(pieces, lease, guardBefore(lease.buffer, count));
    } finally {
      if (isOurs) lease.release();
    }
  }

  async #waiting<T>(what: string, wait: () => Promise<T>): Promise<T> {
    this.#waitsFor = what;
    try {
      return await wait();
    } finally {
      this.#waitsFor = undefined;
    }
  }
}

/** Thrown where the content turned out to be another in the middle of something. */
class ContentChanged extends Error {}

function startsWith(buffer: Buffer, guard: Buffer): boolean {
  return guard.length === 0 || buffer.compare(guard, 0, guard.length, 0, guard.length) === 0;
}

/** A copy of the up to 256 bytes of `buffer` that end at `end`: the buffer itself goes back to the pool. */
function guardBefore(buffer: Buffer, end: number): Buffer {
  return Buffer.from(buffer.subarray(Math.max(0, end - GUARD_BYTES), end));
}

function resumesAfter(piece: Lines): "line" | "cut" | "partial" {
  if (piece.kind === "cut") return "cut";
  return piece.kind === "partial" ? "partial" : "line";
}
