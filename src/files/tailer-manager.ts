import { isDeepStrictEqual } from "node:util";
import type { Receiver, Sender } from "../channel/index.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import { CancellationToken } from "../runtime/cancellation-token.ts";
import type { Source, SourceContext, SourceStatus } from "../stage/contract.ts";
import { Contents } from "./contents.ts";
import { DeliveredFiles } from "./delivered-files.ts";
import { openFileLimit } from "./descriptor-limit.ts";
import { Discovery } from "./discovery.ts";
import { FileIds } from "./file-id.ts";
import { FileRegistry } from "./file-registry.ts";
import { type FileFacts, FileReport, type FileStatus, statusOf } from "./file-report.ts";
import { PathPatterns } from "./glob.ts";
import { LoopPace } from "./loop-pace.ts";
import { Logrotate } from "./rotation-places/logrotate.ts";
import { RotationPlaces } from "./rotation-places/rotation-places.ts";
import { SourceNotices } from "./source-notices.ts";
import type { TailerManagerOptions } from "./tailer-manager-options.ts";
import type { ReadCounters, TailerPayload } from "./tailer-options.ts";
import { TailerPool } from "./tailer-pool.ts";
import { Tombstones } from "./tombstones.ts";
import { Watcher } from "./watcher.ts";

/**
 * The source of files (design "TailerManager channel ownership"): it creates THE channel, gives each Tailer a clone of
 * the sender, and alone starts and stops Tailers (in its TailerPool), each under a child of its cancellation token. It
 * never sends.
 *
 *     Discovery: which files are there --> ready --(a descriptor is free)--> Tailer --clone of the sender--> channel
 *                                           ^                                  |
 *                                           +---- truncated, moved, failed ----+---- idle: closed when others wait
 */
export class TailerManager implements Source {
  readonly output: Receiver<TailerPayload>;
  /** What was read since the start, over all files. */
  readonly counters: ReadCounters = { bytes: 0, records: 0, cutLines: 0, holeBytes: 0 };
  /** A copy: `reconfigure` changes it, and everybody looks here when they need a value. */
  readonly #options: Mutable<TailerManagerOptions>;
  #revision = 0;
  readonly #context: SourceContext;
  readonly #sender: Sender<TailerPayload>;
  readonly #places: RotationPlaces;
  readonly #fileRegistry: FileRegistry;
  readonly #ids: FileIds;
  #patterns: PathPatterns;
  readonly #contents: Contents;
  readonly #notices: SourceNotices;
  readonly #delivered: DeliveredFiles;
  readonly #report: FileReport;
  readonly #tombstones: Tombstones;
  /** Of descriptors, for all that read files. */
  #allowedFiles = Number.POSITIVE_INFINITY;
  #watcher: Watcher | undefined;
  /** They watch on until another has looked. */
  readonly #watchersBefore: Watcher[] = [];
  #discovery: Discovery | undefined;
  #pool: TailerPool | undefined;
  #token = new CancellationToken();
  #pace: LoopPace | undefined;
  #isPassing = false;
  /** No pass begins before. */
  #changing: Promise<void> | undefined;

  constructor(options: TailerManagerOptions, context: SourceContext) {
    this.#options = { ...options };
    this.#context = context;
    this.#ids = new FileIds(context.fileSystem);
    const { fileSystem, clock, log } = context;
    const now = this.#options;
    const userId = process.getuid?.() ?? 0;
    const configuration = options.logrotateConfiguration?.map(pathFromText);
    this.#places = new RotationPlaces({
      fileSystem,
      clock,
      get rotatedTo() {
        return now.rotatedTo ?? [];
      },
      logrotate: new Logrotate({ fileSystem, clock, log, userId, ...(configuration && { configuration }) }),
    });
    this.#fileRegistry = new FileRegistry(this.#places);
    this.#patterns = new PathPatterns(options.include, options.exclude);
    this.#contents = new Contents(context.fileSystem, this.#ids, options.archives);
    const patterns = () => this.#patterns;
    this.#tombstones = new Tombstones({
      fileRegistry: this.#fileRegistry,
      positions: context.positions,
      clock: context.clock,
      get keepMs() {
        return now.tombstoneDays * 86_400_000;
      },
      seenAtMs: (path) => this.#watcher?.seenAtMs(path) ?? 0,
    });
    this.#notices = new SourceNotices(context.log, context.clock);
    this.#delivered = new DeliveredFiles({
      ...context,
      fileRegistry: this.#fileRegistry,
      contents: this.#contents,
      ids: this.#ids,
      get removeAfterMs() {
        return now.removeAfterMs;
      },
    });
    this.#report = new FileReport({
      ...context,
      fileRegistry: this.#fileRegistry,
      ids: this.#ids,
      contents: this.#contents,
      get patterns() {
        return patterns();
      },
      get rotateWaitMs() {
        return now.rotateWaitMs;
      },
      whereKept: (path) => this.#places.whereKept(path),
      maxOpenFiles: () => this.#maxOpenFiles,
      tailerOf: (state) => this.#pool?.tailerOf(state),
      folderTrouble: (folder) => this.#watcher?.troubleOf(folder),
      lookedAtAs: (path) => this.#watcher?.lookedAtAs(path),
      isLeftOut: (path) => this.#watcher?.isLeftOut(path) === true,
    });
    context.positions.describeBy((key, furthest) => this.#tombstones.describe(key, furthest));
    const { sender, receiver } = context.channel();
    this.#sender = sender;
    this.output = receiver;
  }

  /** See `Source`. Rejects only if the channel it was given is unusable; files that cannot be read are tried again. */
  async run({ signal, once }: { signal: AbortSignal; once: boolean }): Promise<void> {
    const { clock } = this.#context;
    this.#token = CancellationToken.following(signal);
    this.#allowedFiles = await openFileLimit(this.#context.fileSystem);
    this.#tellFewerFiles();
    const pace = new LoopPace(clock, this.#token.signal);
    this.#pace = pace;
    const pool = this.#makePool(pace, once);
    const discovery = this.#makeDiscovery(pool, once);
    this.#pool = pool;
    this.#discovery = discovery;
    try {
      discovery.load();
      let lastTidyMs = clock.monotonic();
      while (!this.#token.isCancelled && !this.#sender.isClosed) {
        if (this.#changing !== undefined) await this.#changing;
        this.#isPassing = true;
        await discovery.pass();
        this.#isPassing = false;
        // Their successor has looked at, and watches, everything.
        for (const watcher of this.#watchersBefore.splice(0)) watcher.close();
        pool.startReady();
        if (clock.monotonic() - lastTidyMs >= this.#options.scanIntervalMs) {
          lastTidyMs = clock.monotonic();
          await this.#tidy(discovery, pool);
        }
        // Nothing is left to read or to find out.
        if (once && pool.isAtRest && !pace.isNudged && !discovery.isUnsettled) break;
        await pace.next(lastTidyMs + this.#options.scanIntervalMs);
      }
    } finally {
      this.#token.cancel();
      await pool.ended();
      this.#closeWatchers();
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
    const unreadable = this.#report.unreadable(this.#watcher?.troubles ?? new Map());
    const leftOutFiles = this.#watcher?.leftOutCount ?? 0;
    return { files, lagBytes, cutLines: this.counters.cutLines, leftOutFiles, unreadable };
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
    for (const state of states) await this.#pool?.stop(state);
    try {
      await this.#context.positions.save(new Map(states.map((state) => [state.key, undefined])));
    } catch (error) {
      for (const state of states) this.#pool?.read(state);
      throw error;
    }
    for (const state of states) {
      this.#pool?.forget(state);
      this.#discovery?.forget(state);
    }
    this.#pace?.nudge();
    return states.length;
  }

  /**
   * Goes on with other options from the next look and the next read on; resolves once it does. Everything stays: what is
   * known of files, where this process stands in them, descriptors, what was sent and is not settled. Files that match no
   * more are let go of and keep their positions, those that match now are found by the next look.
   */
  async reconfigure(options: TailerManagerOptions): Promise<void> {
    // Not in the middle of a pass: it holds on to what it knows of the files.
    while (this.#isPassing && !this.#token.isCancelled)
      await this.#context.clock.sleep(5, { signal: this.#token.signal });
    const before = { include: this.#options.include, exclude: this.#options.exclude };
    Object.assign(this.#options, options);
    this.#revision += 1;
    this.#contents.readsArchives = options.archives;
    this.#places.forget();
    this.#tellFewerFiles();
    if (!isDeepStrictEqual(before, { include: options.include, exclude: options.exclude })) {
      this.#patterns = new PathPatterns(options.include, options.exclude);
      if (this.#watcher !== undefined) {
        this.#changing = this.#watchAnew(this.#watcher);
        await this.#changing;
        this.#changing = undefined;
      }
    }
    this.#pool?.wakeAll();
    this.#pace?.nudge();
  }

  async #watchAnew(before: Watcher): Promise<void> {
    const watcher = this.#makeWatcher();
    this.#watcher = watcher;
    this.#watchersBefore.push(before);
    const isWanted = (path: BytePath) => this.#patterns.judge(path).kind === "included";
    for (const state of this.#fileRegistry.states)
      if (state.location !== undefined && !isWanted(state.location)) watcher.follow(state.location);
    for (const [path, use] of [...this.#fileRegistry.paths]) {
      if (isWanted(path)) continue;
      this.#fileRegistry.removePath(path);
      if (use.kind !== "file") continue;
      const { state } = use;
      state.paths.delete(path);
      if (state.paths.size > 0) continue;
      watcher.unfollow(path);
      // Before it stops: whoever has no place is not started again.
      state.location = undefined;
      await this.#pool?.stop(state);
      this.#discovery?.letGo(state);
    }
  }

  /** As many as are wanted, and allowed. */
  get #maxOpenFiles(): number {
    return Math.max(1, Math.min(this.#options.maxOpenFiles, this.#allowedFiles));
  }

  #tellFewerFiles(): void {
    const wanted = Math.max(1, this.#options.maxOpenFiles);
    if (this.#allowedFiles < wanted) this.#notices.fewerOpenFiles(wanted, this.#allowedFiles);
  }

  /** Descriptors that are open for reading. */
  get openFiles(): number {
    return this.#pool?.openFiles ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#token.cancel();
    await this.#pool?.ended();
    this.#closeWatchers();
    this.#sender.close();
  }

  // ------------------------------------------------------------ the loop

  #makePool(pace: LoopPace, isOnce: boolean): TailerPool {
    const maxOpenFiles = () => this.#maxOpenFiles;
    return new TailerPool({
      context: this.#context,
      reading: this.#options,
      revision: () => this.#revision,
      sender: this.#sender,
      token: this.#token,
      fileRegistry: this.#fileRegistry,
      contents: this.#contents,
      notices: this.#notices,
      counters: this.counters,
      get maxOpenFiles() {
        return maxOpenFiles();
      },
      isOnce,
      onTruncated: (state) => this.#discovery?.truncated(state),
      onMoved: (state) => {
        this.#discovery?.moved(state);
        pace.hint("entry");
      },
      onEnded: () => {
        if (isOnce || this.#discovery?.isUnsettled) pace.nudge();
      },
    });
  }

  #makeDiscovery(readers: TailerPool, isOnce: boolean): Discovery {
    const { fileSystem, clock, random, events, log, positions, name } = this.#context;
    const now = this.#options;
    const patterns = () => this.#patterns;
    const watcher = () => this.#watcher!;
    this.#watcher = this.#makeWatcher();
    return new Discovery({
      places: this.#places,
      source: name,
      fileRegistry: this.#fileRegistry,
      contents: this.#contents,
      ids: this.#ids,
      fileSystem,
      positions,
      clock,
      random,
      events,
      log,
      isOnce,
      readers,
      get watcher() {
        return watcher();
      },
      get patterns() {
        return patterns();
      },
      get readFrom() {
        return now.readFrom;
      },
      get rotateWaitMs() {
        return now.rotateWaitMs;
      },
      get scanIntervalMs() {
        return now.scanIntervalMs;
      },
      get ignoreOlderMs() {
        return now.ignoreOlderMs;
      },
    });
  }

  #makeWatcher(): Watcher {
    const { name, fileSystem, clock, random, events, log } = this.#context;
    const now = this.#options;
    return new Watcher({
      source: name,
      patterns: this.#patterns,
      fileSystem,
      clock,
      random,
      events,
      log,
      get scanIntervalMs() {
        return now.scanIntervalMs;
      },
      get idleScanIntervalMs() {
        return now.idleScanIntervalMs;
      },
      get maxFiles() {
        return now.maxFiles;
      },
      isKnown: (path) => this.#fileRegistry.ownerOf(path) !== undefined,
      onHint: (change) => this.#pace?.hint(change),
    });
  }

  #closeWatchers(): void {
    for (const watcher of this.#watchersBefore.splice(0)) watcher.close();
    this.#watcher?.close();
  }

  /** Once a scan: close what is idle, note what was learned, forget what is old. */
  async #tidy(discovery: Discovery, pool: TailerPool): Promise<void> {
    pool.closeIdle();
    this.#notices.cutLines(this.counters, this.#options.maxLineBytes);
    discovery.settleCopies();
    this.#tombstones.noteSome(pool.active());
    await this.#tombstones.prune((state) => pool.tailerOf(state) !== undefined);
    await this.#delivered.remove();
  }
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };
