import type { StoredState } from "../../src/checkpoint/checkpoint-store.ts";
import { MemoryCheckpointStore } from "../../src/checkpoint/memory-store.ts";
import { CheckpointError, StageError } from "../../src/errors.ts";
import { ManualClock, type ProcessClock } from "../../src/testing/manual-clock.ts";
import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import { SimDisk } from "../../src/testing/sim-disk.ts";
import { SimFileSystem } from "../../src/testing/sim-file-system.ts";
import type { Inode } from "../../src/testing/sim-inode.ts";
import { SimPrograms } from "../../src/testing/sim-programs.ts";
import { type Engine, type EngineEvent, openEngine } from "./engine.ts";
import { WITHOUT_DELIMITER } from "./ledger.ts";
import { ProcessStore } from "./process-store.ts";
import type { SimTarget } from "./sim-targets.ts";

export const OUTPUT = "/out/out.log";
/** Folders that hold logs: of the live names, of what links lead to, of what was rotated away, of nobody. */
export const LOGS = "/logs";
export const REAL = "/real";
export const OLD = "/old";
export const ELSEWHERE = "/elsewhere";
const FOLDERS = [LOGS, REAL, OLD, ELSEWHERE];

/** A file that was opened so long ago is held for reading, not just being looked at. */
const HELD_MS = 1000;
/** What a healthy agent could see for so long, it has read; on a disk that takes its time and on another. */
const READ_MS = { slow: 2500, fast: 1000 };
/** Backoffs take so long after the trouble. */
const TROUBLE_MS = 3000;

export interface MachineOptions {
  /** How the agent's globs are written: the live names only, or every sibling too. */
  readonly include: readonly string[];
  readonly rotatedTo: readonly string[];
  readonly birthTimes: boolean;
  readonly lastFreedFirst: boolean;
  readonly lostNotifications: number;
  readonly delayChance: number;
  readonly shortIo: number;
  readonly maxOpenFiles: number;
  readonly rotateWaitMs: number;
}

/** A machine with a disk, a store that survives, and at most one process: the agent. */
export class ModelMachine {
  readonly clock = new ManualClock();
  readonly disk: SimDisk;
  readonly programs: SimPrograms;
  readonly events: (EngineEvent & { readonly atMs: number })[] = [];
  /** Of the store: the next commits that fail. */
  failingCommits = 0;
  /** How often the agent was killed, alone or with the machine. */
  kills = 0;
  /** The agent is gone: nothing holds files without names any more. `isGraceful`: what was read has arrived. */
  onEnd: (isGraceful: boolean) => void = () => {};
  readonly #random: SeededRandom;
  readonly #options: MachineOptions;
  readonly #second: SimTarget | undefined;
  readonly #rows = new MemoryCheckpointStore();
  #process: { clock: ProcessClock; files: SimFileSystem; store: ProcessStore; engine: Engine } | undefined;
  /** Steps of the agent until it is killed. */
  #stepsToLive = Number.POSITIVE_INFINITY;
  /** Until then nothing is asked of its pace. */
  #troubledUntilMs = 0;

  /** @param second what lies behind another sink beside the file */
  constructor(random: SeededRandom, options: MachineOptions, second: SimTarget | undefined) {
    this.#random = random;
    this.#options = options;
    this.#second = second;
    const { birthTimes, lastFreedFirst } = options;
    this.disk = new SimDisk({ clock: this.clock, random: random.fork(), birthTimes, lastFreedFirst });
    this.disk.lostNotifications = options.lostNotifications;
    this.programs = new SimPrograms(this.disk);
    for (const folder of [...FOLDERS, "/out", "/state"]) this.programs.mkdirs(folder);
    this.disk.syncAll();
  }

  get isUp(): boolean {
    return this.#process !== undefined;
  }

  /** The file system as the running agent sees it: for fault points. */
  get files(): SimFileSystem | undefined {
    return this.#process?.files;
  }

  /** Starts the agent. */
  async start(): Promise<void> {
    const clock = this.clock.process();
    const { delayChance, shortIo } = this.#options;
    this.#stepsToLive = Number.POSITIVE_INFINITY;
    const onStep = () => {
      this.#stepsToLive -= 1;
      if (this.#stepsToLive <= 0) this.kill();
    };
    const files = new SimFileSystem(this.disk, {
      clock,
      delayChance,
      shortReads: shortIo,
      shortWrites: shortIo,
      unknownKinds: 0.1,
      deadCalls: "hang",
      onStep,
    });
    const failsNow = () => {
      if (this.failingCommits === 0) return false;
      this.failingCommits -= 1;
      return true;
    };
    const store = new ProcessStore(this.#rows, clock, this.#random.fork(), { delayChance, failsNow, onStep });
    const second = this.#second;
    const engine = openEngine({
      clock,
      files,
      store,
      random: this.#random.fork(),
      include: this.#options.include,
      rotatedTo: this.#options.rotatedTo,
      output: OUTPUT,
      maxOpenFiles: this.#options.maxOpenFiles,
      rotateWaitMs: this.#options.rotateWaitMs,
      second:
        second === undefined
          ? undefined
          : { definition: second.definition({ files, clock, isDead: () => files.isDead }), options: second.options },
      onEvent: (event) => this.events.push({ ...event, atMs: this.clock.monotonic() }),
    });
    this.#process = { clock, files, store, engine };
    this.#troubledUntilMs = this.clock.monotonic();
    await this.clock.settle();
  }

  /** Something is in the agent's way, or was until now. `isLasting`: for as long as this process lives. */
  trouble(isLasting: boolean): void {
    const untilMs = isLasting ? Number.POSITIVE_INFINITY : this.clock.monotonic() + TROUBLE_MS;
    this.#troubledUntilMs = Math.max(this.#troubledUntilMs, untilMs);
  }

  /** Whether a healthy agent must have read by now what was written then. */
  hadTimeSince(writtenAtMs: number): boolean {
    const isFree = this.disk.capacityBytes === Number.POSITIVE_INFINITY && this.failingCommits === 0;
    if (!this.isUp || !isFree || this.#options.maxOpenFiles < 100) return false;
    const readMs = this.#options.delayChance > 0.05 ? READ_MS.slow : READ_MS.fast;
    return this.clock.monotonic() - Math.max(writtenAtMs, this.#troubledUntilMs) >= readMs;
  }

  /** SIGTERM, and the wait for the end. Throws what made it end otherwise. */
  async stop(): Promise<void> {
    const { engine } = this.#process!;
    this.#stepsToLive = Number.POSITIVE_INFINITY;
    engine.stop();
    await this.clock.run(engine.ended, { what: "the graceful end", limitMs: 600_000 });
    const hasFailed = engine.failure !== undefined;
    const failure = this.takeFailure();
    this.#forget(!hasFailed);
    if (failure !== undefined) throw failure;
  }

  reload(): void {
    this.#process?.engine.reload();
  }

  /**
   * What made the agent end by itself. A store that cannot be written when a run begins or ends, and an output that
   * cannot be opened, rightly end it with exit code 1: the process is gone then, and nothing is wrong.
   */
  takeFailure(): Error | undefined {
    const failure = this.#process?.engine.failure;
    if (failure === undefined) return undefined;
    this.#forget();
    const isOfTheWorld =
      failure instanceof CheckpointError || (failure instanceof StageError && failure.code === "TR_STAGE_OPEN");
    return isOfTheWorld ? undefined : failure;
  }

  kill(): void {
    if (this.isUp) this.kills += 1;
    this.#forget();
  }

  /** The agent is killed in the midst of its work: before or after the effect of a call to the disk or the store. */
  killAfter(steps: number): void {
    this.#stepsToLive = steps;
  }

  /** The agent dies and the machine with it; logs are as durable as if their writers had synced them. */
  powerCut(): void {
    this.kill();
    for (const folder of FOLDERS) {
      for (const name of this.programs.list(folder)) {
        const inode = this.disk.inodeAt(`${folder}/${name}`, { followLast: false });
        if (inode.kind === "file") inode.content.sync();
      }
      this.disk.syncFolder(this.disk.inodeAt(folder));
    }
    this.disk.powerCut("anything");
    this.#second?.powerCut();
    if (this.#random.chance(0.3)) this.disk.device += 1n;
  }

  /** Whether the agent has a file open to read on in it; it can be sure of that only with descriptors for all. */
  holds(inode: Inode): boolean {
    const sinceMs = this.files?.openSinceMs(inode);
    return sinceMs !== undefined && this.#options.maxOpenFiles >= 100 && this.clock.monotonic() - sinceMs >= HELD_MS;
  }

  /** What the next process would find in the store. */
  stored(): Promise<StoredState> {
    return this.#rows.load();
  }

  /** What arrived at each sink. */
  sinks(): readonly { readonly lines: readonly string[]; readonly isExactlyOnce: boolean }[] {
    const second = this.#second;
    const out = { lines: this.#outputLines(), isExactlyOnce: true };
    return second === undefined ? [out] : [out, { lines: second.lines(), isExactlyOnce: second.isExactlyOnce }];
  }

  #outputLines(): string[] {
    if (!this.programs.exists(OUTPUT)) return [];
    const lines = this.programs.read(OUTPUT).toString("latin1").split("\n");
    const rest = lines.pop();
    return rest === "" ? lines : [...lines, `${rest}${WITHOUT_DELIMITER}`];
  }

  #forget(isGraceful = false): void {
    const process = this.#process;
    if (process === undefined) return;
    this.#process = undefined;
    process.clock.kill();
    process.files.processKill();
    process.store.kill();
    this.onEnd(isGraceful);
  }
}
