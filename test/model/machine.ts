import { MemoryCheckpointStore } from "../../src/checkpoint/memory-store.ts";
import { CheckpointError, StageError } from "../../src/errors.ts";
import { ManualClock, type ProcessClock } from "../../src/testing/manual-clock.ts";
import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import { SimDisk } from "../../src/testing/sim-disk.ts";
import { SimFileSystem } from "../../src/testing/sim-file-system.ts";
import { SimPrograms } from "../../src/testing/sim-programs.ts";
import { type Engine, type EngineEvent, openEngine } from "./engine.ts";
import { ProcessStore } from "./process-store.ts";

export const OUTPUT = "/out/out.log";
export const LOGS = "/logs";

export interface MachineOptions {
  /** How the agent's globs are written: the live names only, or every sibling too. */
  readonly include: readonly string[];
  readonly birthTimes: boolean;
  readonly lostNotifications: number;
  readonly delayChance: number;
  readonly shortIo: number;
  readonly maxOpenFiles: number;
}

/** A machine with a disk, a store that survives, and at most one process: the agent. */
export class ModelMachine {
  readonly clock = new ManualClock();
  readonly disk: SimDisk;
  readonly programs: SimPrograms;
  readonly events: EngineEvent[] = [];
  /** Of the store: the next commits that fail. */
  failingCommits = 0;
  readonly #random: SeededRandom;
  readonly #options: MachineOptions;
  readonly #rows = new MemoryCheckpointStore();
  #process: { clock: ProcessClock; files: SimFileSystem; store: ProcessStore; engine: Engine } | undefined;

  constructor(random: SeededRandom, options: MachineOptions) {
    this.#random = random;
    this.#options = options;
    this.disk = new SimDisk({ clock: this.clock, random: random.fork(), birthTimes: options.birthTimes });
    this.disk.lostNotifications = options.lostNotifications;
    this.programs = new SimPrograms(this.disk);
    this.programs.mkdirs(LOGS);
    this.programs.mkdirs("/out");
    this.programs.mkdirs("/state");
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
    const files = new SimFileSystem(this.disk, {
      clock,
      delayChance: this.#options.delayChance,
      shortReads: this.#options.shortIo,
      shortWrites: this.#options.shortIo,
      unknownKinds: 0.1,
      deadCalls: "hang",
    });
    const store = new ProcessStore(this.#rows, clock, this.#random.fork(), this.#options.delayChance, () => {
      if (this.failingCommits === 0) return false;
      this.failingCommits -= 1;
      return true;
    });
    const engine = openEngine({
      clock,
      files,
      store,
      random: this.#random.fork(),
      include: this.#options.include,
      output: OUTPUT,
      maxOpenFiles: this.#options.maxOpenFiles,
      onEvent: (event) => this.events.push(event),
    });
    this.#process = { clock, files, store, engine };
    await this.clock.settle();
  }

  /** SIGTERM, and the wait for the end. Throws what made it end otherwise. */
  async stop(): Promise<void> {
    const { engine } = this.#process!;
    engine.stop();
    await this.clock.run(engine.ended, { what: "the graceful end", limitMs: 600_000 });
    const failure = this.takeFailure();
    this.#forget();
    if (failure !== undefined) throw failure;
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
    this.#forget();
  }

  /** The agent dies and the machine with it; files under /logs are as durable as if their writers had synced them. */
  powerCut(): void {
    this.#forget();
    for (const name of this.programs.list(LOGS)) this.disk.syncFile(`${LOGS}/${name}`);
    this.disk.syncFolder(this.disk.inodeAt(LOGS));
    this.disk.powerCut("anything");
    if (this.#random.chance(0.3)) this.disk.device += 1n;
  }

  /** Whether the store holds an entry of a file that was seen under this path. */
  async knows(path: string): Promise<boolean> {
    const { files } = await this.#rows.load();
    return files.some(({ value }) => value.names.includes(path));
  }

  outputLines(): string[] {
    if (!this.programs.exists(OUTPUT)) return [];
    const lines = this.programs.read(OUTPUT).toString("latin1").split("\n");
    const rest = lines.pop();
    return rest === "" ? lines : [...lines, `${rest} (without a delimiter)`];
  }

  #forget(): void {
    const process = this.#process;
    if (process === undefined) return;
    this.#process = undefined;
    process.clock.kill();
    process.files.processKill();
    process.store.kill();
  }
}
