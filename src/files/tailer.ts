import type { Sender } from "../channel/index.ts";
import type { ArchiveMark } from "../checkpoint/checkpoint-store.ts";
import type { LineFramer } from "../codec/line-framer.ts";
import { ChannelClosedError, toError } from "../errors.ts";
import { pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import { type Content, readFully, UNKNOWN_SIZE } from "./content.ts";
import { growFingerprint, hasGuard, hasShrunk, learnFingerprint, sizeSeen } from "./content-proof.ts";
import { EndMark } from "./end-mark.ts";
import type { FileState } from "./file-state.ts";
import { GUARD_BYTES } from "./fingerprint.ts";
import { PieceSender } from "./piece-sender.ts";
import { framerAt, holeAtStart, provenStat, skipHole } from "./reading-start.ts";
import type { Ending, TailerEnd, TailerOptions, TailerPayload } from "./tailer-options.ts";
import { WaitReason } from "./wait-reason.ts";
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
  readonly #sender: PieceSender;
  readonly #signal: AbortSignal;
  #content: Content | undefined;
  #framer!: LineFramer;
  /** Of the options that it frames by. */
  #revision = 0;
  /** Size at the last fstat; undefined: ask again before reading. */
  #size: number | undefined;
  /** Bytes to read at once; grows while a line is longer. */
  #want: number;
  #ending: Ending;
  /** With `at_end` on a file that grows for ever: the size when reading began is the end. */
  #limit: number | undefined;
  readonly #endMark: EndMark;
  /** So many NUL bytes stand at the start, and nothing behind them yet. */
  #nulBytes = 0;
  #isReleased: boolean;
  readonly #wakes: WakeSignal;
  #isIdle = false;
  /** Offset that this tailer began at. */
  #startedAt = 0;
  /** The end of an archive was reached, and more of it may come. */
  #isArchiveAtEnd = false;
  readonly #waits = new WaitReason();

  constructor(
    state: FileState,
    options: TailerOptions,
    sender: Sender<TailerPayload>,
    signal: AbortSignal,
    start: { readonly ending: Ending; readonly isHeld: boolean },
  ) {
    this.state = state;
    this.#options = options;
    this.#sender = new PieceSender(state, options, sender, signal, this.#waits);
    this.#signal = signal;
    this.#wakes = new WakeSignal(options.clock, signal);
    this.#endMark = new EndMark(() => options.onCaughtUp(state));
    this.#ending = start.ending;
    this.#isReleased = !start.isHeld;
    this.#want = options.maxBatchBytes;
  }

  /** It holds the content open. */
  get isOpen(): boolean {
    return this.#content !== undefined;
  }

  /** What it reads from; undefined while nothing is open. */
  get content(): Content | undefined {
    return this.#content;
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
    return this.#isIdle ? "more data: it is read to its end" : this.#waits.what;
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
    this.#endMark.set();
    this.wake();
  }

  /** An end was marked and has not been reached: whoever reads on must tell. */
  get hasEndMark(): boolean {
    return this.#endMark.isSet;
  }

  /** Runs until it ends; never rejects. The sender is closed then, and so is the file. */
  async run(): Promise<TailerEnd> {
    try {
      const opened = await this.#open();
      if (opened !== "ready") return { kind: opened };
      this.#options.onOpened(this.state);
      while (!this.#isReleased && !this.#signal.aborted) await this.#wakes.wait(undefined);
      // It may have grown, or shrunk, while it was held.
      this.#size = undefined;
      for (;;) {
        if (this.#signal.aborted) return { kind: "stopped" };
        if (this.#revision !== this.#options.revision) this.#frame();
        if (!this.#options.positions.hasRoom(this.state.key)) {
          const { positions } = this.#options;
          await this.#waits.during("sinks: too many of its batches have ended out of order or not at all", () =>
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

  async #open(): Promise<"ready" | "moved" | "truncated" | "stopped"> {
    const { state } = this;
    const content = await this.#options.open(state);
    if (content === undefined) return "moved";
    this.#content = content;
    const stat = await provenStat(state, content);
    if (stat === undefined) return "truncated";
    this.#takeStat(stat);
    this.#known(stat);
    if (state.start > 0 && !state.isSaved) {
      await growFingerprint(state, content);
      state.guards.settle(state.start);
      // Where reading begins must survive, or a restart would begin elsewhere.
      if (!(await this.#sender.save())) return "stopped";
    }
    if (this.#ending === "at_end" && stat.size !== UNKNOWN_SIZE) this.#limit = stat.size;
    this.#frame();
    this.#startedAt = state.offset;
    return "ready";
  }

  /** By the options as they are now, from `state.offset` on. */
  #frame(): void {
    this.#revision = this.#options.revision;
    this.#framer = framerAt(this.state, this.#options);
    this.#want = this.#options.maxBatchBytes;
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
      // An archive that has changed is not quiet, whatever comes out of it.
      if (this.#isArchiveAtEnd && stat.size === UNKNOWN_SIZE) state.changedAtMs = clock.monotonic();
      this.#isArchiveAtEnd = false;
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
    const lease = await this.#waits.during("memory: the in-flight budget is used up", () =>
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
      const mayBeHole = bufferStart === 0 && guardBytes === 0 && count > 0 && lease.buffer[0] === 0;
      if (
        count < guardBytes ||
        stat.size < end ||
        hasShrunk(state, stat, seen) ||
        !startsWith(lease.buffer, state.guard)
      )
        return "truncated";
      this.#takeStat(stat);
      this.#known(stat);
      if (count === guardBytes && wanted > 0 && stat.size > state.offset && stat.size !== UNKNOWN_SIZE) {
        // The size promises bytes that cannot be read (a file system that lags behind): not a reason to spin.
        await clock.sleep(10, { signal: this.#signal });
        return "more";
      }
      if (end > state.readEnd) {
        state.readEnd = end;
        state.changedAtMs = clock.monotonic();
      }
      if (mayBeHole && stat.size > this.#nulBytes) {
        const hole = await this.#passHole(content, Math.min(stat.size, size));
        if (hole !== undefined) return hole;
      } else if (mayBeHole && this.#nulBytes > 0) return this.#reachedEnd();
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
      const guard = guardBefore(lease.buffer, guardBytes + (this.#framer.offset - state.offset));
      if (!state.isSaved && !(await this.#sender.saveWith(pieces, guard))) return "stopped";
      isOurs = false;
      await this.#sender.send(pieces, lease, guard);
      this.#endMark.passed(state.offset);
      return this.#isAtEnd() ? this.#reachedEnd() : "more";
    } finally {
      if (isOurs) lease.release();
    }
  }

  /** The content begins with NUL bytes; undefined: they are its own. */
  async #passHole(content: Content, size: number): Promise<ReadOutcome | undefined> {
    const { state } = this;
    const bytes = await holeAtStart(state, content, size, this.#options);
    if (bytes === 0) return undefined;
    this.#nulBytes = bytes === size ? bytes : 0;
    if (bytes === size) {
      state.readEnd = Math.max(state.readEnd, size);
      return this.#reachedEnd();
    }
    if (!(await skipHole(state, content, bytes, () => this.#sender.save(), this.#options))) return "stopped";
    this.#framer = framerAt(state, this.#options);
    return "more";
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
    this.#endMark.saw(stat.size);
    if (stat.size !== UNKNOWN_SIZE) this.state.size = stat.size;
  }

  /** What was read around this look was its own, and so is what stands behind. */
  #known({ size, modifiedMs }: FileStat): void {
    if (size === UNKNOWN_SIZE) return;
    this.state.knownEnd = Math.max(this.state.knownEnd, size);
    this.state.modifiedMs = modifiedMs;
  }

  #isAtEnd(): boolean {
    const { state } = this;
    if (this.#limit !== undefined && state.offset >= this.#limit) return true;
    return state.readEnd >= (this.#limit === undefined ? this.#size! : Math.min(this.#size!, this.#limit));
  }

  #reachedEnd(): ReadOutcome {
    this.#endMark.passedAll();
    return "end";
  }

  // ------------------------------------------------------------ at the end

  /** Waits at the end of the content; true: nothing more will come, and all was sent. */
  async #atEnd(): Promise<boolean> {
    const { state } = this;
    const { clock, partialLineTimeoutMs, rotateWaitMs } = this.#options;
    const lastKind = state.phase === "live" ? "partial" : "partial_end";
    if (this.#ending === "at_end") return this.#finish(lastKind);
    let quietMs = clock.monotonic() - state.changedAtMs;
    if (this.#ending === "when_whole") {
      const archive = this.#content?.archive;
      const isGrowing = this.#startedAt > 0;
      if (archive === undefined || (archive.damage === undefined && !isGrowing)) return this.#finish(lastKind);
      quietMs = Math.max(quietMs, clock.now() - archive.modifiedMs);
      this.#isArchiveAtEnd = true;
    }
    const hasPartial = state.readEnd > state.offset;
    let waitMs: number | undefined;
    if (this.#ending === "when_quiet" || this.#ending === "when_whole") {
      if (quietMs >= rotateWaitMs) return this.#finish(this.#ending === "when_quiet" ? "partial_end" : lastKind);
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
    if (this.#signal.aborted) return false;
    if (this.#content?.archive !== undefined) this.#endArchive(this.#content.archive, this.#content.trailing);
    return true;
  }

  /** Notes what the archive was, and tells what cannot be read of it. */
  #endArchive(archive: ArchiveMark, trailing: string | undefined): void {
    const { state } = this;
    const { damage } = archive;
    const before = state.archive?.damage;
    const isTold = before !== undefined && before.reason === damage?.reason && before.at === damage.at;
    state.archive = archive;
    const file = pathToText(state.location ?? state.path);
    if (trailing !== undefined) this.#options.log.warn({ file }, `${file}: ${trailing}; it is passed over`);
    if (damage === undefined || (isTold && state.offset === this.#startedAt)) return;
    state.isDamageNew = true;
    const where = damage.at === undefined ? "" : ` (byte ${damage.at} of the archive)`;
    const read = state.offset === 0 ? "nothing of it is read" : `it is delivered up to byte ${state.offset}`;
    const message = `${file} cannot be decompressed to its end: ${damage.reason}${where}; ${read}, and what follows is read if it is mended`;
    this.#options.events.emit("gap", message, {
      file,
      offset: state.offset,
      reason: damage.reason,
      ...(damage.at === undefined ? {} : { archive_byte: damage.at }),
    });
  }

  /**
   * Delivers the unfinished line as it is. Where it is cut depends on when, so the cut is made durable before it is
   * delivered: a replay cuts there too, and what comes later is a record of its own.
   */
  async #deliverUnfinished(kind: "partial" | "partial_end"): Promise<void> {
    const { state } = this;
    const { budget, clock, counters } = this.#options;
    const content = this.#content!;
    if (this.#nulBytes > 0) {
      // Nobody came to write behind the hole.
      await skipHole(state, content, this.#nulBytes, () => this.#sender.save(), this.#options);
      return;
    }
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
      if (!(await this.#sender.save())) return;
      isOurs = false;
      await this.#sender.send(pieces, lease, guardBefore(lease.buffer, count));
    } finally {
      if (isOurs) lease.release();
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
