import type { Sender } from "../channel/index.ts";
import { errnoOf } from "../errors.ts";
import { pathToText } from "../runtime/byte-path.ts";
import type { CancellationToken } from "../runtime/cancellation-token.ts";
import type { SourceContext } from "../stage/contract.ts";
import type { Content } from "./content.ts";
import type { Contents } from "./contents.ts";
import { DescriptorRoom, type Running } from "./descriptor-room.ts";
import type { FileRegistry } from "./file-registry.ts";
import type { FileState } from "./file-state.ts";
import { FileTroubles } from "./file-troubles.ts";
import { HINT_DELAY_MS } from "./loop-pace.ts";
import type { Readers } from "./readers.ts";
import type { SourceNotices } from "./source-notices.ts";
import { Tailer } from "./tailer.ts";
import type { TailerManagerOptions } from "./tailer-manager-options.ts";
import type { Ending, ReadCounters, TailerEnd, TailerOptions, TailerPayload } from "./tailer-options.ts";

/**
 * Archives that are read at once: each holds a decompressor, with a window of up to 128 MiB, outside of the in-flight
 * budget. They are read to their end, so those behind them have their turn.
 */
const MAX_OPEN_ARCHIVES = 4;

/**
 * Files that are closed at once so that others can be opened. Opening, reading and saving one takes many turns through
 * threads and a commit, which go together for all of them: one by one, ten thousand files took two minutes.
 */
const MAX_CLOSING = 64;

/** A descriptor of a file quiet for so long is closed; the next change opens it again. */
const IDLE_CLOSE_MS = 60_000;

export interface TailerPoolOptions {
  readonly context: SourceContext;
  readonly reading: TailerManagerOptions;
  /** Rises when `reading` was changed. */
  readonly revision: () => number;
  /** Each tailer sends on a clone of it. */
  readonly sender: Sender<TailerPayload>;
  /** Each tailer runs under a child of it. */
  readonly token: CancellationToken;
  readonly fileRegistry: FileRegistry;
  readonly contents: Contents;
  readonly notices: SourceNotices;
  readonly counters: ReadCounters;
  readonly maxOpenFiles: number;
  /** Every file is read to the end that it has now. */
  readonly isOnce: boolean;
  /** The content before `state.offset` is not what was read. */
  readonly onTruncated: (state: FileState) => void;
  /** Renamed or deleted between the look and the open: somebody must look for it, and soon. */
  readonly onMoved: (state: FileState) => void;
  /** After any other consequence of a tailer's end. */
  readonly onEnded: () => void;
}

/**
 * The tailers that run, and the files that wait for one:
 *
 *     read --> ready --(its turn, and a descriptor is free)--> running --> finished
 *               ^                                                 |
 *               '-- moved, failed: not before `notBeforeMs` ------+
 *               '-- closed to make room, and there is more -------'
 *
 * A file's turn comes when the one before it at its path has been read to the end it had (`predecessor`): it is opened
 * sooner, and waits open.
 */
export class TailerPool implements Readers {
  readonly #options: TailerPoolOptions;
  readonly #context: SourceContext;
  readonly #running = new Map<FileState, Running>();
  readonly #ready = new Set<FileState>();
  /** Of those that run: who waits, open, for another to be read first. */
  readonly #held = new Set<FileState>();
  readonly #room = new DescriptorRoom();
  #archives = 0;
  /** With `isOnce`: what cannot be read, and is not tried again. */
  readonly #givenUp = new Set<FileState>();
  /** Those that must tell when they have sent what is there now. */
  readonly #toMark = new Set<FileState>();
  /** Gone with their files: one that never could be read again is not told of. */
  readonly #troubles: FileTroubles;

  constructor(options: TailerPoolOptions) {
    this.#options = options;
    this.#context = options.context;
    this.#troubles = new FileTroubles(options.context);
  }

  /** Descriptors that are open for reading. */
  get openFiles(): number {
    return this.#running.size;
  }

  /** Nothing is read, and nothing waits to be. */
  get isAtRest(): boolean {
    return this.#running.size === 0 && this.#ready.size === 0;
  }

  /** Files that are open. */
  active(): Iterable<FileState> {
    return this.#running.keys();
  }

  tailerOf(state: FileState): Tailer | undefined {
    return this.#running.get(state)?.tailer;
  }

  // ------------------------------------------------------------ what discovery asks for

  holds(state: FileState): boolean {
    return this.#running.get(state)?.tailer.isOpen ?? false;
  }

  contentOf(state: FileState): Content | undefined {
    return this.#isArchive(state) ? undefined : this.#running.get(state)?.tailer.content;
  }

  read(state: FileState): void {
    if (this.#givenUp.has(state)) return;
    const running = this.#running.get(state);
    if (running !== undefined) running.tailer.wake();
    if (running === undefined || running.token.isCancelled) this.#ready.add(state);
  }

  rotate(state: FileState): void {
    this.revive(state);
    if (!this.#givenUp.has(state)) this.#ready.add(state);
  }

  revive(state: FileState): void {
    this.#running.get(state)?.tailer.end(this.#endingOf(state));
  }

  async stop(state: FileState): Promise<void> {
    const running = this.#running.get(state);
    if (running === undefined) return;
    running.token.cancel();
    await running.ended;
    this.#ready.delete(state);
  }

  markEnd(state: FileState): void {
    const running = this.#running.get(state);
    if (state.phase === "finished") {
      state.isCaughtUp = true;
      return;
    }
    state.isCaughtUp = false;
    if (running !== undefined) running.tailer.markEnd();
    else this.#toMark.add(state);
  }

  // ------------------------------------------------------------ what the manager asks for

  /** The file is not known any more; its tailer was stopped. */
  forget(state: FileState): void {
    this.#ready.delete(state);
    this.#toMark.delete(state);
  }

  /** The options are others now: whoever waits looks at them again. */
  wakeAll(): void {
    for (const { tailer } of this.#running.values()) tailer.wake();
    this.startReady();
  }

  /** Closes files that have been quiet for long. */
  closeIdle(): void {
    const nowMs = this.#context.clock.monotonic();
    for (const [state, running] of this.#running) {
      const isQuiet = nowMs - Math.max(state.changedAtMs, running.idleSinceMs) >= IDLE_CLOSE_MS;
      if (running.tailer.isIdle && isQuiet && state.phase === "live") running.token.cancel();
    }
  }

  /** Resolves when every tailer has ended; for when the token is cancelled. */
  async ended(): Promise<void> {
    await Promise.all([...this.#running.values()].map((running) => running.ended));
  }

  /** Opens what may be opened now, and lets those read that were waiting open. */
  startReady(): void {
    if (this.#options.token.isCancelled) return;
    const nowMs = this.#context.clock.monotonic();
    for (const state of this.#held) {
      if (this.#waits(state)) continue;
      this.#held.delete(state);
      state.predecessor = undefined;
      state.isReleased = true;
      this.#running.get(state)?.tailer.release();
    }
    for (const state of this.#ready) {
      const running = this.#running.get(state);
      if (running !== undefined) {
        // One that is being stopped comes back here when it has ended.
        if (!running.token.isCancelled) this.#ready.delete(state);
        continue;
      }
      if (state.location === undefined || state.phase === "finished" || state.phase === "missing") {
        this.#ready.delete(state);
        continue;
      }
      if (state.isInDoubt || state.notBeforeMs > nowMs || !this.#mayOpen(state)) continue;
      if (this.#archives >= MAX_OPEN_ARCHIVES && this.#isArchive(state)) {
        this.#closeIdleArchive();
        continue;
      }
      if (this.#running.size >= this.#options.maxOpenFiles) {
        this.#room.make(Math.min(this.#ready.size, MAX_CLOSING), this.#inTheWay());
        break;
      }
      this.#ready.delete(state);
      this.#start(state);
    }
  }

  /** One that waits for more to be written has its turn again once it may be over. */
  #closeIdleArchive(): void {
    for (const running of this.#running.values()) {
      if (!running.isArchive || !running.tailer.isIdle || running.token.isCancelled) continue;
      running.token.cancel();
      return;
    }
  }

  /** Those that hold their place, open, for a file that is not. */
  *#inTheWay(): Iterable<Running> {
    for (const state of this.#held) {
      const { predecessor, location } = state;
      const running = this.#running.get(state);
      if (running === undefined || location === undefined) continue;
      if (predecessor === undefined || !this.#running.has(predecessor)) yield running;
    }
  }

  // ------------------------------------------------------------ whose turn it is

  /** Another one, or that something is found out, comes first. */
  #waits(state: FileState): boolean {
    if (state.isReleased) return false;
    return state.isBlocked || (state.predecessor !== undefined && !this.#isPast(state.predecessor));
  }

  /**
   * A file that waits for another waits open: whatever happens to its name meanwhile, its bytes stay within reach. One
   * descriptor is left for those that need not wait, so that those waiting never have the one that they wait for.
   */
  #mayOpen(state: FileState): boolean {
    if (this.#waits(state)) return this.#running.size < this.#options.maxOpenFiles - 1;
    state.predecessor = undefined;
    return true;
  }

  /** What comes behind it need not wait any longer. */
  #isPast(state: FileState): boolean {
    if (state.isCaughtUp || state.phase === "finished" || this.#givenUp.has(state)) return true;
    // Most troubles pass in a moment; what comes behind one that does not must not wait for ever.
    const { trouble } = state;
    if (trouble === undefined) return false;
    return this.#context.clock.monotonic() - trouble.sinceMs >= this.#options.reading.rotateWaitMs;
  }

  #endingOf(state: FileState): Ending {
    if (this.#options.isOnce) return "at_end";
    if (this.#isArchive(state)) return "when_whole";
    if (state.phase === "live") return "never";
    // A copy was finished before it was found; only what a writer may still hold open can grow.
    return state.rotation === "copy_truncated" ? "at_end" : "when_quiet";
  }

  #isArchive(state: FileState): boolean {
    return state.location !== undefined && this.#options.contents.formatOf(state.location) !== undefined;
  }

  // ------------------------------------------------------------ one tailer

  #start(state: FileState): void {
    const { clock } = this.#context;
    const token = this.#options.token.child();
    const isHeld = this.#waits(state);
    state.isReleased ||= !isHeld;
    const tailer = new Tailer(state, this.#tailerOptions(), this.#options.sender.clone(), token.signal, {
      ending: this.#endingOf(state),
      isHeld,
    });
    if (this.#toMark.delete(state)) tailer.markEnd();
    const ended = tailer.run().then((end) => {
      token[Symbol.dispose]();
      this.#running.delete(state);
      this.#held.delete(state);
      this.#room.ended(state, running);
      if (running.isArchive) this.#archives -= 1;
      if (tailer.hasEndMark && end.kind !== "finished") {
        // Somebody waits to hear of it.
        this.#toMark.add(state);
        this.#ready.add(state);
      }
      this.#ended(state, end);
      this.startReady();
      this.#options.onEnded();
    });
    const isArchive = this.#isArchive(state);
    const running: Running = { tailer, token, ended, isArchive, idleSinceMs: clock.monotonic() };
    this.#running.set(state, running);
    if (isArchive) this.#archives += 1;
    if (isHeld) this.#held.add(state);
  }

  #tailerOptions(): TailerOptions {
    const { clock, budget, positions, random, events, log, host } = this.#context;
    const { reading, revision, contents, counters, notices } = this.#options;
    return {
      budget,
      positions,
      clock,
      random,
      events,
      log,
      host,
      // As they are when they are asked for: `reconfigure` changes them.
      get delimiter() {
        return reading.lineDelimiter;
      },
      get encoding() {
        return reading.encoding;
      },
      get maxLineBytes() {
        return reading.maxLineBytes;
      },
      get maxBatchBytes() {
        return reading.maxBatchBytes;
      },
      get partialLineTimeoutMs() {
        return reading.partialLineTimeoutMs;
      },
      get rotateWaitMs() {
        return reading.rotateWaitMs;
      },
      get revision() {
        return revision();
      },
      counters,
      notices,
      open: (state) => contents.openAs(state),
      onOpened: (state) => {
        if (state.isAnnounced) return;
        state.isAnnounced = true;
        const file = pathToText(state.path);
        const { offset, generation } = state;
        events.emit("file_opened", `${file} is read from byte ${offset} on`, { file, offset, generation });
      },
      onCaughtUp: (state) => {
        state.isCaughtUp = true;
        this.startReady();
      },
      onIdle: (state) => {
        const running = this.#running.get(state);
        if (running !== undefined) {
          running.idleSinceMs = clock.monotonic();
          this.#room.becameIdle(state, running);
        }
        this.#troubles.mended(state);
        if (this.#ready.size > 0) this.startReady();
      },
    };
  }

  #ended(state: FileState, end: TailerEnd): void {
    if (this.#options.token.isCancelled) return;
    switch (end.kind) {
      case "finished":
        this.#finished(state);
        return;
      case "truncated":
        this.#options.onTruncated(state);
        return;
      case "moved":
        this.#moved(state);
        return;
      case "failed":
        this.#failed(state, end.error);
        return;
      case "stopped": {
        // Closed to make room. What woke it meanwhile opens it again; a rotated one has yet to end.
        const isUnread = state.phase === "live" && (state.readEnd < state.size || !state.isReleased);
        const isToEnd = state.phase === "rotated" || (state.phase === "live" && this.#isArchive(state));
        if (isUnread || isToEnd) this.#ready.add(state);
        if (isToEnd) state.notBeforeMs = state.changedAtMs + this.#options.reading.rotateWaitMs;
      }
    }
  }

  #moved(state: FileState): void {
    this.#ready.add(state);
    // Not before somebody has looked.
    state.notBeforeMs = this.#context.clock.monotonic() + 2 * HINT_DELAY_MS;
    this.#options.onMoved(state);
  }

  #finished(state: FileState): void {
    const { clock, events } = this.#context;
    state.isCaughtUp = true;
    state.trouble = undefined;
    if (state.phase === "live" && !this.#isArchive(state)) return;
    state.finish(clock.now());
    // It had no name any more: its inode number is free for another file.
    if (state.location === undefined) {
      this.#options.fileRegistry.setId(state, undefined);
      // What was set aside as its copy may hold more.
      this.#options.onMoved(state);
    }
    const text = pathToText(state.path);
    events.emit("file_finished", `${text} was read to its end at byte ${state.offset}`, {
      file: text,
      size: state.offset,
    });
    // What is finished in memory is soon so for everybody who asks the store.
    if (!state.isSaved && state.archive?.damage === undefined) return;
    const saved = this.#context.positions.save(new Map([[state.key, state.toEntry()]]));
    saved.then(
      () => {
        state.isSaved = true;
      },
      () => undefined,
    );
  }

  /** Tried again, ever more rarely; the position stays. */
  #failed(state: FileState, error: Error): void {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) {
      this.#moved(state);
      return;
    }
    this.#troubles.failed(state, error);
    if (this.#options.isOnce && this.#troubles.isLasting(state, this.#options.reading.rotateWaitMs)) {
      // A run that ends with what is there now does not wait until an operator mends it.
      this.#givenUp.add(state);
      this.#ready.delete(state);
      return;
    }
    this.#ready.add(state);
  }
}
