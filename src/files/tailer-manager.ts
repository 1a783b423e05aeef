import type { Receiver, Sender } from "../channel/index.ts";
import { errnoOf } from "../errors.ts";
import { pathToText } from "../runtime/byte-path.ts";
import { CancellationToken } from "../runtime/cancellation-token.ts";
import type { Source, SourceContext, SourceStatus } from "../stage/contract.ts";
import { DeliveredFiles } from "./delivered-files.ts";
import { openFileLimit } from "./descriptor-limit.ts";
import { type Running, whomToClose } from "./descriptor-room.ts";
import { Discovery } from "./discovery.ts";
import { FileIds } from "./file-id.ts";
import { FileRegistry } from "./file-registry.ts";
import { type FileFacts, FileReport, type FileStatus, statusOf } from "./file-report.ts";
import type { FileState } from "./file-state.ts";
import { FileTroubles } from "./file-troubles.ts";
import { PathPatterns } from "./glob.ts";
import { HINT_DELAY_MS, LoopPace } from "./loop-pace.ts";
import type { Readers } from "./readers.ts";
import { Rotation } from "./rotation.ts";
import { SourceNotices } from "./source-notices.ts";
import { Tailer } from "./tailer.ts";
import type { TailerManagerOptions } from "./tailer-manager-options.ts";
import type { Ending, ReadCounters, TailerEnd, TailerOptions, TailerPayload } from "./tailer-options.ts";
import { Tombstones } from "./tombstones.ts";
import { Watcher } from "./watcher.ts";

/**
 * Archives that are read at once: each holds a decompressor, with a window of up to 128 MiB, outside of the in-flight
 * budget. They are read to their end, so those behind them have their turn.
 */
const MAX_OPEN_ARCHIVES = 4;

/** A descriptor of a file quiet for so long is closed; the next change opens it again. */
const IDLE_CLOSE_MS = 60_000;

/**
 * The source of files (design "TailerManager channel ownership"): it creates THE channel, gives each Tailer a clone of
 * the sender, and alone starts and stops Tailers, each under a child of its cancellation token. It never sends.
 *
 *     Discovery: which files are there --> ready --(a descriptor is free)--> Tailer --clone of the sender--> channel
 *                                           ^                                  |
 *                                           +---- truncated, moved, failed ----+---- idle: closed when others wait
 */
export class TailerManager implements Source {
  readonly output: Receiver<TailerPayload>;
  /** What was read since the start, over all files. */
  readonly counters: ReadCounters = { bytes: 0, records: 0, cutLines: 0, holeBytes: 0 };
  readonly #options: TailerManagerOptions;
  readonly #context: SourceContext;
  readonly #sender: Sender<TailerPayload>;
  readonly #fileRegistry = new FileRegistry();
  readonly #ids: FileIds;
  readonly #patterns: PathPatterns;
  readonly #rotation: Rotation;
  readonly #running = new Map<FileState, Running>();
  readonly #ready = new Set<FileState>();
  /** Those that must tell when they have sent what is there now. */
  readonly #toMark = new Set<FileState>();
  /** Gone with their files: one that never could be read again is not told of. */
  readonly #troubles: FileTroubles;
  readonly #notices: SourceNotices;
  readonly #delivered: DeliveredFiles;
  readonly #report: FileReport;
  readonly #tombstones: Tombstones;
  #maxOpenFiles: number;
  #watcher: Watcher | undefined;
  #discovery: Discovery | undefined;
  #token = new CancellationToken();
  #isOnce = false;
  #pace: LoopPace | undefined;
  #isPassing = false;

  constructor(options: TailerManagerOptions, context: SourceContext) {
    this.#options = options;
    this.#context = context;
    this.#ids = new FileIds(context.fileSystem);
    this.#patterns = new PathPatterns(options.include, options.exclude);
    this.#rotation = new Rotation(context.fileSystem, this.#ids, options.archives);
    this.#maxOpenFiles = Math.max(1, options.maxOpenFiles);
    this.#tombstones = new Tombstones({
      fileRegistry: this.#fileRegistry,
      positions: context.positions,
      clock: context.clock,
      keepMs: options.tombstoneDays * 86_400_000,
      seenAtMs: (path) => this.#watcher?.seenAtMs(path) ?? 0,
    });
    this.#troubles = new FileTroubles(context);
    this.#notices = new SourceNotices(context.log, context.clock);
    this.#delivered = new DeliveredFiles({
      ...context,
      fileRegistry: this.#fileRegistry,
      rotation: this.#rotation,
      ids: this.#ids,
      removeAfterMs: options.removeAfterMs,
    });
    this.#report = new FileReport({
      ...context,
      fileRegistry: this.#fileRegistry,
      rotation: this.#rotation,
      ids: this.#ids,
      patterns: this.#patterns,
      rotateWaitMs: options.rotateWaitMs,
      maxOpenFiles: () => this.#maxOpenFiles,
      tailerOf: (state) => this.#running.get(state)?.tailer,
      folderTrouble: (folder) => this.#watcher?.troubleOf(folder),
    });
    const { sender, receiver } = context.channel();
    this.#sender = sender;
    this.output = receiver;
  }

  /** See `Source`. Rejects only if the channel it was given is unusable; files that cannot be read are tried again. */
  async run({ signal, once }: { signal: AbortSignal; once: boolean }): Promise<void> {
    const { clock } = this.#context;
    this.#isOnce = once;
    this.#token = CancellationToken.following(signal);
    const allowed = await openFileLimit(this.#context.fileSystem);
    if (allowed < this.#maxOpenFiles) {
      this.#notices.fewerOpenFiles(this.#maxOpenFiles, allowed);
      this.#maxOpenFiles = allowed;
    }
    const pace = new LoopPace(clock, this.#token.signal);
    this.#pace = pace;
    const discovery = this.#open();
    try {
      discovery.load();
      let lastTidyMs = clock.monotonic();
      while (!this.#token.isCancelled && !this.#sender.isClosed) {
        this.#isPassing = true;
        await discovery.pass();
        this.#isPassing = false;
        this.#startReady();
        if (clock.monotonic() - lastTidyMs >= this.#options.scanIntervalMs) {
          lastTidyMs = clock.monotonic();
          await this.#tidy();
        }
        if (once && this.#isDone()) break;
        await pace.next(lastTidyMs + this.#options.scanIntervalMs);
      }
    } finally {
      this.#token.cancel();
      await Promise.all([...this.#running.values()].map((running) => running.ended));
      this.#watcher?.close();
      this.#tombstones.note(this.#fileRegistry.states);
      this.#sender.close();
      this.#token[Symbol.dispose]();
    }
  }

  status(): SourceStatus {
    let files = 0;
    let lagBytes = 0;
    for (const state of this.#fileRegistry.states) {
      if (state.phase === "finished") continue;
      files += 1;
      lagBytes += state.lagBytes;
    }
    return { files, lagBytes, cutLines: this.counters.cutLines };
  }

  /** Every file that is read, and every tombstone. */
  files(): FileStatus[] {
    return [...this.#fileRegistry.states].map(statusOf);
  }

  /**
   * Why the file at `path` is, or is not, being read, and where it stands: `answer` in plain words, and what it rests on
   * (positions in bytes). Paths as text; bytes that are no UTF-8 as events show them (`\xNN`).
   */
  async why(path: string): Promise<FileFacts> {
    return this.#report.why(path);
  }

  /**
   * Forgets the files whose newest name is `path`, with their positions: what is there is read as a new file, from 0.
   *
   * @returns how many files were forgotten
   * @throws CheckpointError if that cannot be made durable; they stay known then
   */
  async reset(path: string): Promise<number> {
    const name = this.#report.pathOf(path);
    const states = [...this.#fileRegistry.states].filter((state) => state.names[state.names.length - 1] === name);
    if (states.length === 0) return 0;
    // Not in the middle of a pass: it holds on to what it knows of the files.
    while (this.#isPassing) await this.#context.clock.sleep(5, { signal: this.#token.signal });
    for (const state of states) await this.#stop(state);
    try {
      await this.#context.positions.save(new Map(states.map((state) => [state.key, undefined])));
    } catch (error) {
      for (const state of states) this.#read(state);
      throw error;
    }
    for (const state of states) {
      this.#ready.delete(state);
      this.#toMark.delete(state);
      this.#discovery?.forget(state);
    }
    this.#pace?.nudge();
    return states.length;
  }

  /** Descriptors that are open for reading. */
  get openFiles(): number {
    return this.#running.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#token.cancel();
    await Promise.all([...this.#running.values()].map((running) => running.ended));
    this.#watcher?.close();
    this.#sender.close();
  }

  // ------------------------------------------------------------ the loop

  #open(): Discovery {
    const { fileSystem, clock, random, events, log, positions, name } = this.#context;
    const { scanIntervalMs, idleScanIntervalMs } = this.#options;
    this.#watcher = new Watcher({
      patterns: this.#patterns,
      fileSystem,
      clock,
      random,
      events,
      log,
      scanIntervalMs,
      idleScanIntervalMs,
      onHint: () => this.#pace?.hint(),
    });
    const readers: Readers = {
      holds: (state) => this.#running.get(state)?.tailer.isOpen ?? false,
      read: (state) => this.#read(state),
      rotate: (state) => {
        this.#running.get(state)?.tailer.end(this.#endingOf(state));
        this.#ready.add(state);
      },
      revive: (state) => this.#running.get(state)?.tailer.end(this.#endingOf(state)),
      stop: (state) => this.#stop(state),
      markEnd: (state) => this.#markEnd(state),
    };
    this.#discovery = new Discovery({
      source: name,
      fileRegistry: this.#fileRegistry,
      rotation: this.#rotation,
      watcher: this.#watcher,
      patterns: this.#patterns,
      ids: this.#ids,
      fileSystem,
      positions,
      clock,
      random,
      events,
      log,
      readFrom: this.#options.readFrom,
      archives: this.#options.archives,
      rotateWaitMs: this.#options.rotateWaitMs,
      scanIntervalMs,
      ignoreOlderMs: this.#options.ignoreOlderMs,
      isOnce: this.#isOnce,
      readers,
    });
    return this.#discovery;
  }

  /** Once a scan: close what is idle, note what was learned, forget what is old. */
  async #tidy(): Promise<void> {
    const nowMs = this.#context.clock.monotonic();
    for (const [state, running] of this.#running) {
      const isQuiet = nowMs - Math.max(state.changedAtMs, running.idleSinceMs) >= IDLE_CLOSE_MS;
      if (running.tailer.isIdle && isQuiet && state.phase === "live") running.token.cancel();
    }
    this.#notices.cutLines(this.counters, this.#options.maxLineBytes);
    await this.#discovery?.settleCopies();
    this.#tombstones.note(this.#fileRegistry.states);
    await this.#tombstones.prune((state) => this.#running.has(state));
    await this.#delivered.remove();
  }

  /** `--once`: nothing is left to read or to find out. */
  #isDone(): boolean {
    return (
      this.#running.size === 0 &&
      this.#ready.size === 0 &&
      this.#pace?.isNudged === false &&
      this.#discovery?.isUnsettled === false
    );
  }

  // ------------------------------------------------------------ tailers

  #read(state: FileState): void {
    const running = this.#running.get(state);
    if (running !== undefined) running.tailer.wake();
    if (running === undefined || running.token.isCancelled) this.#ready.add(state);
  }

  #markEnd(state: FileState): void {
    const running = this.#running.get(state);
    if (state.phase === "finished") {
      state.isCaughtUp = true;
      return;
    }
    state.isCaughtUp = false;
    if (running !== undefined) running.tailer.markEnd();
    else this.#toMark.add(state);
  }

  async #stop(state: FileState): Promise<void> {
    const running = this.#running.get(state);
    if (running === undefined) return;
    running.token.cancel();
    await running.ended;
    this.#ready.delete(state);
  }

  #startReady(): void {
    if (this.#token.isCancelled) return;
    const nowMs = this.#context.clock.monotonic();
    for (const [state, running] of this.#running) {
      if (state.predecessor === undefined || !this.#isPast(state.predecessor)) continue;
      state.predecessor = undefined;
      state.isReleased = true;
      running.tailer.release();
    }
    let archives = 0;
    for (const state of this.#running.keys()) if (this.#isArchive(state)) archives += 1;
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
      if (state.notBeforeMs > nowMs || !this.#mayOpen(state)) continue;
      const isArchive = this.#isArchive(state);
      if (isArchive && archives >= MAX_OPEN_ARCHIVES) continue;
      if (this.#running.size >= this.#maxOpenFiles) {
        whomToClose(this.#running)?.token.cancel();
        break;
      }
      this.#ready.delete(state);
      this.#start(state);
      if (isArchive) archives += 1;
    }
  }

  /**
   * A file is opened as soon as the one before it is, and waits open: whatever happens to its name meanwhile, its bytes
   * stay within reach. Not sooner, so that those waiting can never take the descriptor of the one they wait for.
   */
  #mayOpen(state: FileState): boolean {
    const { predecessor } = state;
    if (state.isBlocked && !state.isReleased) return false;
    if (predecessor === undefined) return true;
    if (!this.#isPast(predecessor)) return this.#running.has(predecessor);
    state.predecessor = undefined;
    return true;
  }

  /** What comes behind it need not wait any longer. */
  #isPast(state: FileState): boolean {
    if (state.isCaughtUp || state.phase === "finished") return true;
    // Most troubles pass in a moment; what comes behind one that does not must not wait for ever.
    const { trouble } = state;
    return trouble !== undefined && this.#context.clock.monotonic() - trouble.sinceMs >= this.#options.rotateWaitMs;
  }

  #endingOf(state: FileState): Ending {
    if (this.#isOnce) return "at_end";
    if (state.phase === "live") return this.#isArchive(state) ? "at_end" : "never";
    // A copy or an archive was finished before it was found; only what a writer may still hold open can grow.
    const isStatic = state.rotation === "copy_truncated" || this.#isArchive(state);
    return isStatic ? "at_end" : "when_quiet";
  }

  #isArchive(state: FileState): boolean {
    return state.location !== undefined && this.#rotation.formatOf(state.location) !== undefined;
  }

  #start(state: FileState): void {
    const { clock, budget, positions, random, events, log, host } = this.#context;
    const token = this.#token.child();
    const options: TailerOptions = {
      budget,
      positions,
      clock,
      random,
      events,
      log,
      host,
      delimiter: this.#options.lineDelimiter,
      encoding: this.#options.encoding,
      maxLineBytes: this.#options.maxLineBytes,
      maxBatchBytes: this.#options.maxBatchBytes,
      partialLineTimeoutMs: this.#options.partialLineTimeoutMs,
      rotateWaitMs: this.#options.rotateWaitMs,
      counters: this.counters,
      notices: this.#notices,
      open: (which) => this.#rotation.openAs(which),
      onCaughtUp: (which) => {
        which.isCaughtUp = true;
        this.#startReady();
      },
      onIdle: (which) => {
        const running = this.#running.get(which);
        if (running !== undefined) running.idleSinceMs = clock.monotonic();
        this.#troubles.mended(which);
        if (this.#ready.size > 0) this.#startReady();
      },
    };
    state.isReleased ||= state.predecessor === undefined;
    const tailer = new Tailer(state, options, this.#sender.clone(), token.signal, {
      ending: this.#endingOf(state),
      isHeld: state.predecessor !== undefined,
    });
    if (this.#toMark.delete(state)) tailer.markEnd();
    const ended = tailer.run().then((end) => {
      token[Symbol.dispose]();
      this.#running.delete(state);
      if (tailer.hasEndMark && end.kind !== "finished") {
        // Somebody waits to hear of it.
        this.#toMark.add(state);
        this.#ready.add(state);
      }
      this.#ended(state, end);
      this.#startReady();
      if (this.#isOnce || this.#discovery?.isUnsettled) this.#pace?.nudge();
    });
    this.#running.set(state, { tailer, token, ended, idleSinceMs: clock.monotonic() });
  }

  #ended(state: FileState, end: TailerEnd): void {
    if (this.#token.isCancelled) return;
    switch (end.kind) {
      case "finished":
        this.#finished(state);
        return;
      case "truncated":
        this.#discovery?.truncated(state);
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
        if (isUnread || state.phase === "rotated") this.#ready.add(state);
        if (state.phase === "rotated") state.notBeforeMs = state.changedAtMs + this.#options.rotateWaitMs;
      }
    }
  }

  /** Renamed or deleted between the look and the open: the next pass finds it. */
  #moved(state: FileState): void {
    this.#discovery?.moved(state);
    this.#ready.add(state);
    // Not before somebody has looked.
    state.notBeforeMs = this.#context.clock.monotonic() + 2 * HINT_DELAY_MS;
    this.#pace?.hint();
  }

  #finished(state: FileState): void {
    const { clock, events } = this.#context;
    state.isCaughtUp = true;
    state.trouble = undefined;
    if (state.phase === "live" && !this.#isArchive(state)) return;
    state.size = state.offset;
    state.phase = "finished";
    state.tombstoneSinceMs = clock.now();
    // It had no name any more: its inode number is free for another file.
    if (state.location === undefined) this.#fileRegistry.setId(state, undefined);
    const text = pathToText(state.path);
    events.emit("file_finished", `${text} was read to its end at byte ${state.offset}`, {
      file: text,
      size: state.offset,
    });
  }

  /** Tried again, ever more rarely; the position stays. */
  #failed(state: FileState, error: Error): void {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) {
      this.#moved(state);
      return;
    }
    this.#troubles.failed(state, error);
    this.#ready.add(state);
  }
}
