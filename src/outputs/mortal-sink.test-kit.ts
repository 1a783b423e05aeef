import type { Batch } from "../record/index.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import type { SinkDefinition } from "../stage/index.ts";
import { FaultyFileSystem, type FileCall, SimulatedCrash } from "../testing/faulty-file-system.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import type { SeededRandom } from "../testing/seeded-random.ts";
import { SimDisk } from "../testing/sim-disk.ts";
import { SimFileSystem, type SimFileSystemOptions } from "../testing/sim-file-system.ts";
import { DriverStore, SinkDriver } from "../testing/sink-driver.ts";

/** Batches of two lines whose texts name them, from so many sources in turn. */
export function namedBatches(count: number, sources: number): Batch[] {
  return Array.from({ length: count }, (_, index) =>
    linesBatch(`s${index % sources}`, "k", index * 100, namesOf(index)),
  );
}

/** Every line of so many batches, in their order. */
export function namedLines(count: number): string[] {
  return Array.from({ length: count }, (_, index) => namesOf(index)).flat();
}

const namesOf = (batch: number) => [`batch ${batch} a`, `batch ${batch} b`];

/**
 * A sink that writes files, on a simulated disk: one life of its process after the other, on what the last one left there
 * and what the store holds. How a life is to end is said before it begins.
 */
export class MortalSink {
  readonly clock = new ManualClock();
  readonly store = new DriverStore();
  readonly #definition: SinkDefinition;
  readonly #options: unknown;
  #disk: SimFileSystem;
  #process: FaultyFileSystem;

  constructor(definition: SinkDefinition, options: object, random: SeededRandom, disk: SimFileSystemOptions = {}) {
    this.#definition = definition;
    this.#options = definition.options.parse(options);
    this.#disk = new SimFileSystem(new SimDisk({ clock: this.clock, random }), disk);
    this.#process = this.#start();
  }

  /** What is on the disk. */
  get files(): FileSystem {
    return this.#disk;
  }

  dieAtCall(at: number, when: "before" | "after"): void {
    this.#process.crashAt(at, when);
  }

  /** `at`: commits that go well before it. */
  dieAtCommit(at: number, how: "refused" | "done but unanswered"): void {
    const process = this.#process;
    let commits = 0;
    const die = () => {
      commits += 1;
      if (commits <= at) return;
      // What the power cut takes before it is closed need not be.
      process.end().catch(() => {});
      throw new SimulatedCrash();
    };
    if (how === "refused") this.store.onCommit = die;
    else this.store.afterCommit = die;
  }

  open(): Promise<SinkDriver> {
    return this.clock.run(this.#open());
  }

  /** A life from its start to a clean stop. */
  live(batches: readonly Batch[]): Promise<void> {
    return this.clock.run(
      (async () => {
        const driver = await this.#open();
        await driver.run(batches);
        await driver.close();
      })(),
    );
  }

  /** False: it came to its clean stop before it was to die. */
  async diesIn(batches: readonly Batch[]): Promise<boolean> {
    const process = this.#process;
    try {
      await this.live(batches);
    } catch (error) {
      if (!process.isCrashed) throw error;
    }
    return process.isCrashed;
  }

  /** A life in which a few of `calls` fail, commits too, and which ends at a call before `lastCall`, if it lasts so long. */
  async suffer(
    batches: readonly Batch[],
    random: SeededRandom,
    { calls, lastCall }: { readonly calls: readonly FileCall[]; readonly lastCall: number },
  ): Promise<void> {
    const process = this.#process;
    for (const call of calls) {
      const fails = random.chance(0.5) ? "EIO" : "ENOSPC";
      process.fail({ call, after: random.int(5, 40), times: random.int(1, 3), fails });
    }
    process.crashAt(random.int(10, lastCall), random.chance(0.5) ? "before" : "after");
    this.store.onCommit = () => {
      if (process.isCrashed) throw new SimulatedCrash();
      if (random.chance(0.05)) throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
    };
    // A start or a commit that fails ends a life, too; the driver is no supervisor.
    await this.live(batches).catch(() => {});
  }

  /** A power cut, and a new process on what the page cache kept. */
  async restart(keep: "everything" | "nothing" | "anything"): Promise<void> {
    if (!this.#process.isCrashed) await this.clock.run(this.#process.end());
    this.#disk = this.#disk.crash(keep);
    this.#process = this.#start();
  }

  #start(): FaultyFileSystem {
    const process = new FaultyFileSystem(this.#disk);
    // A process that is gone commits nothing.
    this.store.onCommit = () => {
      if (process.isCrashed) throw new SimulatedCrash();
    };
    this.store.afterCommit = () => {};
    return process;
  }

  #open(): Promise<SinkDriver> {
    return SinkDriver.open({
      open: (context) => this.#definition.open(this.#options, context),
      store: this.store,
      fileSystem: this.#process,
      clock: this.clock,
      stateDir: "/state",
    });
  }
}
