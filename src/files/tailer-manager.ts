import type { Receiver, Sender } from "../channel/index.ts";
import { errnoOf, toError } from "../errors.ts";
import { Backoff } from "../runtime/backoff.ts";
import { type BytePath, pathFromText, pathToText } from "../runtime/byte-path.ts";
import { CancellationToken } from "../runtime/cancellation-token.ts";
import type { Source, SourceContext, SourceStatus } from "../stage/contract.ts";
import { ArchiveContent, formatOf } from "./archive.ts";
import type { Content } from "./content.ts";
import { openFileLimit } from "./descriptor-limit.ts";
import { Discovery } from "./discovery.ts";
import { FileIds } from "./file-id.ts";
import { FileRegistry } from "./file-registry.ts";
import type { FileState } from "./file-state.ts";
import { PathPatterns } from "./glob.ts";
import type { Readers } from "./readers.ts";
import { Rotation } from "./rotation.ts";
import {
  type Ending,
  type ReadCounters,
  Tailer,
  type TailerEnd,
  type TailerOptions,
  type TailerPayload,
} from "./tailer.ts";
import { Tombstones } from "./tombstones.ts";
import { Watcher } from "./watcher.ts";

export interface TailerManagerOptions {
  /** Globs, absolute or from the working folder. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** For files that have no checkpoint and were there before the start. */
  readonly readFrom: "beginning" | "end";
  readonly maxLineBytes: number;
  readonly lineDelimiter: Buffer;
  /** WHATWG label. */
  readonly encoding: string;
  readonly maxBatchBytes: number;
  readonly scanIntervalMs: number;
  readonly idleScanIntervalMs: number;
  /** 0: off. */
  readonly partialLineTimeoutMs: number;
  readonly rotateWaitMs: number;
  readonly archives: boolean;
  readonly maxOpenFiles: number;
  readonly tombstoneDays: number;
  /** 0: off. */
  readonly ignoreOlderMs: number;
  /** 0: never. */
  readonly removeAfterMs: number;
}

/** Where one file stands. */
export interface FileStatus {
  readonly key: string;
  readonly generation: number;
  readonly path: string;
  /** All names it was seen under. */
  readonly names: readonly string[];
  readonly phase: FileState["phase"];
  /** Everything below it has been read and sent. */
  readonly position: number;
  readonly size: number;
  readonly lagBytes: number;
  readonly trouble: string | undefined;
}

/** Notifications come in bursts, one for each write: what they announce is looked at together. */
const HINT_DELAY_MS = 25;

/**
 * Archives that are read at once: each holds a decompressor, with a window of up to 128 MiB, outside of the in-flight
 * budget. They are read to their end, so those behind them have their turn.
 */
const MAX_OPEN_ARCHIVES = 4;

/** A descriptor of a file quiet for so long is closed; the next change opens it again. */
const IDLE_CLOSE_MS = 60_000;

interface Running {
  readonly tailer: Tailer;
  readonly token: CancellationToken;
  readonly ended: Promise<void>;
  /** Monotonic; when it last reached the end of its file. */
  idleSinceMs: number;
}

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
  readonly #registry = new FileRegistry();
  readonly #ids: FileIds;
  readonly #patterns: PathPatterns;
  readonly #rotation: Rotation;
  readonly #running = new Map<FileState, Running>();
  readonly #ready = new Set<FileState>();
  /** Those that must tell when they have sent what is there now. */
  readonly #toMark = new Set<FileState>();
  /** Gone with their files: one that never could be read again is not told of. */
  readonly #backoffs = new WeakMap<FileState, Backoff>();
  readonly #tombstones: Tombstones;
  #maxOpenFiles: number;
  #watcher: Watcher | undefined;
  #discovery: Discovery | undefined;
  #token = new CancellationToken();
  #isOnce = false;
  #nudge: (() => void) | undefined;
  #isNudged = false;
  #hintedMs: number | undefined;

  constructor(options: TailerManagerOptions, context: SourceContext) {
    this.#options = options;
    this.#context = context;
    this.#ids = new FileIds(context.fileSystem);
    this.#patterns = new PathPatterns(options.include, options.exclude);
    this.#rotation = new Rotation(context.fileSystem, this.#ids, options.archives);
    this.#maxOpenFiles = Math.max(1, options.maxOpenFiles);
    this.#tombstones = new Tombstones({
      registry: this.#registry,
      positions: context.positions,
      clock: context.clock,
      keepMs: options.tombstoneDays * 86_400_000,
      seenAtMs: (path) => this.#watcher?.seenAtMs(path) ?? 0,
    });
    const { sender, receiver } = context.channel();
    this.#sender = sender;
    this.output = receiver;
  }

  /** See `Source`. Rejects only if the channel it was given is unusable; files that cannot be read are tried again. */
  async run({ signal, once }: { signal: AbortSignal; once: boolean }): Promise<void> {
    const { clock, positions } = this.#context;
    this.#isOnce = once;
    this.#token = CancellationToken.following(signal);
    this.#maxOpenFiles = Math.min(this.#maxOpenFiles, await openFileLimit(this.#context.fileSystem));
    const discovery = this.#open();
    try {
      discovery.load();
      let lastTidyMs = clock.monotonic();
      while (!this.#token.isCancelled && !this.#sender.isClosed) {
        await discovery.pass();
        this.#startReady();
        if (clock.monotonic() - lastTidyMs >= this.#options.scanIntervalMs) {
          lastTidyMs = clock.monotonic();
          await this.#tidy();
        }
        if (once && this.#isDone()) break;
        await this.#nextTurn(lastTidyMs);
      }
    } finally {
      this.#token.cancel();
      await Promise.all([...this.#running.values()].map((running) => running.ended));
      this.#watcher?.close();
      this.#tombstones.note(this.#registry.states);
      this.#sender.close();
      this.#token[Symbol.dispose]();
      void positions;
    }
  }

  status(): SourceStatus {
    let files = 0;
    let lagBytes = 0;
    for (const state of this.#registry.states) {
      if (state.phase === "finished") continue;
      files += 1;
      lagBytes += state.lagBytes;
    }
    return { files, lagBytes, cutLines: this.counters.cutLines };
  }

  /** Every file that is read, and every tombstone. */
  files(): FileStatus[] {
    return [...this.#registry.states].map((state) => ({
      key: state.key,
      generation: state.generation,
      path: pathToText(state.path),
      names: state.names.map(pathToText),
      phase: state.phase,
      position: state.offset,
      size: state.size,
      lagBytes: state.phase === "finished" ? 0 : state.lagBytes,
      trouble: state.trouble?.error.message,
    }));
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
      onHint: () => {
        this.#hintedMs ??= clock.monotonic();
        this.#wakeLoop();
      },
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
      registry: this.#registry,
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

  /** Until the next scan is due, a notification came, or a tailer ended. */
  async #nextTurn(lastTidyMs: number): Promise<void> {
    const { clock } = this.#context;
    if (!this.#isNudged) {
      const waitMs = Math.max(1, lastTidyMs + this.#options.scanIntervalMs - clock.monotonic());
      await new Promise<void>((resolve) => {
        const done = () => {
          timer.cancel();
          this.#token.signal.removeEventListener("abort", done);
          this.#nudge = undefined;
          resolve();
        };
        const timer = clock.after(waitMs, done);
        this.#token.signal.addEventListener("abort", done, { once: true });
        this.#nudge = done;
        if (this.#token.isCancelled) done();
      });
    }
    this.#isNudged = false;
    if (this.#hintedMs !== undefined) {
      await clock.sleep(HINT_DELAY_MS, { signal: this.#token.signal });
      this.#hintedMs = undefined;
    }
  }

  #wakeLoop(): void {
    this.#isNudged = true;
    this.#nudge?.();
  }

  /** Once a scan: close what is idle, note what was learned, forget what is old. */
  async #tidy(): Promise<void> {
    const nowMs = this.#context.clock.monotonic();
    for (const [state, running] of this.#running) {
      const isQuiet = nowMs - Math.max(state.changedAtMs, running.idleSinceMs) >= IDLE_CLOSE_MS;
      if (running.tailer.isIdle && isQuiet && state.phase === "live") running.token.cancel();
    }
    await this.#discovery?.settleCopies();
    this.#tombstones.note(this.#registry.states);
    await this.#tombstones.prune((state) => this.#running.has(state));
    if (this.#options.removeAfterMs > 0) await this.#removeOld();
  }

  /** `--once`: nothing is left to read or to find out. */
  #isDone(): boolean {
    return (
      this.#running.size === 0 && this.#ready.size === 0 && !this.#isNudged && this.#discovery?.isUnsettled === false
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
        this.#makeRoom();
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

  /**
   * Asks the tailer that has been idle for the longest time to close; a rotated one only if no live one is idle. One
   * whose file has no name that is known is closed last of all, that is never: nobody could open it again. While all are
   * such, nothing new is started.
   */
  #makeRoom(): void {
    let oldest: Running | undefined;
    let isOldestLive = false;
    for (const [state, running] of this.#running) {
      if (running.token.isCancelled) return;
      // One that holds its place for a file that is not open takes the descriptor that this file needs.
      const isInTheWay =
        running.tailer.isHeld && state.predecessor !== undefined && !this.#running.has(state.predecessor);
      const mayClose = isInTheWay || (running.tailer.isIdle && !running.tailer.hasEndMark);
      if (!mayClose || state.location === undefined) continue;
      const isLive = state.phase === "live";
      if (isOldestLive && !isLive) continue;
      if (oldest !== undefined && isLive === isOldestLive && oldest.idleSinceMs <= running.idleSinceMs) continue;
      oldest = running;
      isOldestLive = isLive;
    }
    oldest?.token.cancel();
  }

  #endingOf(state: FileState): Ending {
    if (this.#isOnce) return "at_end";
    if (state.phase === "live") return this.#isArchive(state) ? "at_end" : "never";
    // A copy or an archive was finished before it was found; only what a writer may still hold open can grow.
    const isStatic = state.rotation === "copy_truncated" || this.#isArchive(state);
    return isStatic ? "at_end" : "when_quiet";
  }

  #isArchive(state: FileState): boolean {
    return this.#options.archives && state.location !== undefined && formatOf(state.location) !== undefined;
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
      open: (which) => this.#openContent(which),
      onCaughtUp: (which) => {
        which.isCaughtUp = true;
        this.#startReady();
      },
      onIdle: (which) => {
        const running = this.#running.get(which);
        if (running !== undefined) running.idleSinceMs = clock.monotonic();
        this.#backoffs.delete(which);
        if (which.trouble !== undefined) this.#mended(which);
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
      if (this.#isOnce || this.#discovery?.isUnsettled) this.#wakeLoop();
    });
    this.#running.set(state, { tailer, token, ended, idleSinceMs: clock.monotonic() });
  }

  async #openContent(state: FileState): Promise<Content | undefined> {
    const { fileSystem } = this.#context;
    const path = state.location!;
    const handle = await fileSystem.open(path, "read");
    try {
      const stat = await handle.stat();
      if (stat.kind !== "file" || this.#ids.idOf(stat) !== state.id) {
        await handle.close();
        return undefined;
      }
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error;
    }
    const format = this.#options.archives ? formatOf(path) : undefined;
    return format === undefined ? handle : new ArchiveContent(handle, format);
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
    this.#hintedMs ??= this.#context.clock.monotonic();
    this.#wakeLoop();
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
    if (state.location === undefined) this.#registry.setId(state, undefined);
    const text = pathToText(state.path);
    events.emit("file_finished", `${text} was read to its end at byte ${state.offset}`, {
      file: text,
      size: state.offset,
    });
  }

  /** Tried again, ever more rarely; the position stays. */
  #failed(state: FileState, error: Error): void {
    const { clock, random, events } = this.#context;
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) {
      this.#moved(state);
      return;
    }
    let backoff = this.#backoffs.get(state);
    if (backoff === undefined) {
      backoff = new Backoff({ initialMs: 250, maxMs: 30_000 }, random);
      this.#backoffs.set(state, backoff);
    }
    state.notBeforeMs = clock.monotonic() + backoff.next();
    this.#ready.add(state);
    const code = errnoOf(error);
    const text = pathToText(state.location ?? state.path);
    if (state.trouble === undefined || errnoOf(state.trouble.error) !== code) {
      events.emit(
        "file_unreadable",
        `${text} cannot be read (${error.message}); its position ${state.offset} is kept`,
        {
          file: text,
          offset: state.offset,
          error: error.message,
        },
      );
    }
    state.trouble = { error, sinceMs: state.trouble?.sinceMs ?? clock.monotonic() };
  }

  #mended(state: FileState): void {
    const text = pathToText(state.location ?? state.path);
    state.trouble = undefined;
    this.#context.events.emit("file_readable", `${text} can be read again`, { file: text });
  }

  // ------------------------------------------------------------ removing

  /** `remove_after_ms`: a file that was quiet for so long and is committed to its end is deleted. */
  async #removeOld(): Promise<void> {
    const { clock, positions, fileSystem, log } = this.#context;
    for (const [path, use] of [...this.#registry.paths]) {
      if (use.kind !== "file") continue;
      const { state, stat } = use;
      if (clock.now() - stat.modifiedMs < this.#options.removeAfterMs || state.lagBytes > 0) continue;
      const committed = Math.max(positions.committedOf(state.key), state.start);
      if (this.#isArchive(state) ? state.phase !== "finished" || committed < state.size : committed < stat.size)
        continue;
      try {
        const now = fileSystem.statSync(path);
        // Only exactly what was read; a name that leads elsewhere by now is none of ours.
        if (now === undefined || this.#ids.idOf(now) !== state.id || now.size !== stat.size) continue;
        if (now.modifiedMs !== stat.modifiedMs) continue;
        await fileSystem.unlink(path);
        log.info({ file: pathToText(path) }, "deleted a file that was delivered and quiet for remove_after_ms");
      } catch (error) {
        log.warn({ file: pathToText(path), error: toError(error).message }, "cannot delete a delivered file");
      }
    }
  }

  /** What is known of a path, given as text. */
  stateAt(path: string): FileState | undefined {
    const use = this.#registry.paths.get(pathFromText(path) as BytePath);
    return use?.kind === "file" ? use.state : undefined;
  }
}
