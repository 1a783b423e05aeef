import { z } from "zod";
import { SettledSet } from "../../src/checkpoint/settled-set.ts";
import type { Batch } from "../../src/record/batch.ts";
import type { BytePath } from "../../src/runtime/byte-path.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { fileSink } from "../../src/sinks/file.ts";
import {
  delivered,
  type Marks,
  type Outcome,
  type Recovered,
  rejected,
  retry,
  type Sink,
  type SinkContext,
} from "../../src/stage/contract.ts";
import { defineSink, type SinkDefinition } from "../../src/stage/define.ts";
import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import type { SimDisk } from "../../src/testing/sim-disk.ts";
import type { SimFileSystem } from "../../src/testing/sim-file-system.ts";
import { SimPrograms } from "../../src/testing/sim-programs.ts";

/** How a target misbehaves. Chances are per call. */
export interface Temper {
  /** Chance that a step takes time (up to `delayMs`). */
  readonly delay: number;
  readonly delayMs: number;
  readonly fail: number;
  /** Chance that a write was carried out and its answer got lost. */
  readonly lostAnswer: number;
}

/** A line that a target refuses for good. */
export const POISON = "poison";

/** What lies behind a sink and outlives the process that writes to it. */
export interface SimTarget {
  readonly definition: (process: TargetProcess) => SinkDefinition;
  /** Lines that a reader of the target would see. */
  lines(): readonly string[];
  readonly isExactlyOnce: boolean;
  /** Options of the sink. */
  readonly options: unknown;
  powerCut(): void;
}

export interface TargetProcess {
  readonly files: SimFileSystem;
  readonly clock: Clock;
  readonly isDead: () => boolean;
}

const textsOf = (batch: Batch) => batch.records.map((record) => String(record.event["message"]));

/** Every step of a target: time may pass, and the dead are not answered. */
function stepsOf({ clock, isDead }: TargetProcess, random: SeededRandom, temper: Temper): () => Promise<void> {
  return async () => {
    if (random.chance(temper.delay)) await clock.sleep(random.next() * temper.delayMs);
    if (isDead()) await new Promise<never>(() => {});
  };
}

/** As a file: written first, durable at the barrier, cut back to the committed mark at the next start. */
export class MarkTarget implements SimTarget {
  readonly isExactlyOnce = true;
  readonly options = {};
  readonly #random: SeededRandom;
  readonly #temper: Temper;
  readonly #content: string[] = [];
  #durable = 0;

  constructor(random: SeededRandom, temper: Temper) {
    this.#random = random;
    this.#temper = temper;
  }

  lines(): readonly string[] {
    return this.#content;
  }

  powerCut(): void {
    this.#content.length = this.#random.int(this.#durable, this.#content.length);
  }

  readonly definition = (process: TargetProcess): SinkDefinition => {
    const step = stepsOf(process, this.#random, this.#temper);
    const content = this.#content;
    return defineSink({
      type: "sim_mark",
      summary: "A simulated file.",
      options: z.unknown(),
      guarantee: "exactly_once",
      open: async (_options: unknown, context: SinkContext): Promise<Sink> => {
        await step();
        let committed = Number(context.marks.get("length") ?? 0);
        if (content.length < committed)
          throw new Error(`${context.name} is shorter than its mark: bytes were not durable`);
        content.length = committed;
        let prepared = committed;
        let cuts = 0;
        let isGoingBack = false;
        return {
          write: async (batch): Promise<Outcome> => {
            if (isGoingBack) return retry("going back");
            const cut = cuts;
            await step();
            if (this.#random.chance(this.#temper.fail)) return retry("the simulated disk is full");
            if (cut !== cuts) return retry("going back");
            content.push(...textsOf(batch));
            await step();
            return cut === cuts ? delivered() : retry("going back");
          },
          prepare: async (): Promise<Marks> => {
            const length = content.length;
            await step();
            if (this.#random.chance(this.#temper.fail)) {
              cuts += 1;
              isGoingBack = true;
              content.length = committed;
              await step();
              // Nothing new may land before the pipeline has heard of it.
              process.clock.after(0, () => {
                isGoingBack = false;
              });
              throw new Error("EIO: simulated");
            }
            this.#durable = Math.max(this.#durable, length);
            prepared = length;
            await step();
            return { length };
          },
          committed: () => {
            committed = prepared;
          },
          async [Symbol.asyncDispose]() {},
        };
      },
    });
  };
}

/** The real file sink on a simulated disk. */
export class FileTarget implements SimTarget {
  readonly isExactlyOnce = true;
  readonly #path: string;
  readonly #random: SeededRandom;
  readonly #temper: Temper;
  readonly #programs: SimPrograms;

  constructor(random: SeededRandom, temper: Temper, disk: SimDisk, path: string) {
    this.#random = random;
    this.#temper = temper;
    this.#path = path;
    this.#programs = new SimPrograms(disk);
  }

  lines(): readonly string[] {
    if (!this.#programs.exists(this.#path)) return [];
    const lines = this.#programs.read(this.#path).toString("latin1").split("\n");
    const rest = lines.pop();
    return rest === "" ? lines : [...lines, `${rest} (without a delimiter)`];
  }

  powerCut(): void {
    // The disk's business.
  }

  get options(): { [key: string]: unknown } {
    return { path: this.#path, encoding: "raw" };
  }

  readonly definition = ({ files }: TargetProcess): SinkDefinition => {
    for (const call of ["write", "datasync", "truncate", "stat", "fstat"] as const) {
      for (let fault = this.#random.int(0, 3); fault > 0 && this.#temper.fail > 0; fault -= 1)
        files.failCall(call, this.#random.pick(["EIO", "ENOSPC"]), {
          after: this.#random.int(0, 12),
          path: this.#path as BytePath,
        });
    }
    return fileSink as unknown as SinkDefinition;
  };
}

/** As a database: records and positions in one transaction, an epoch that fences off a former process. */
export class TableTarget implements SimTarget {
  readonly isExactlyOnce = true;
  readonly options = {};
  readonly #random: SeededRandom;
  readonly #temper: Temper;
  readonly #concurrency: number;
  readonly #rows: string[] = [];
  readonly #positions = new Map<string, SettledSet>();
  #epoch = 0;

  constructor(random: SeededRandom, temper: Temper, concurrency: number) {
    this.#random = random;
    this.#temper = temper;
    this.#concurrency = concurrency;
  }

  lines(): readonly string[] {
    return this.#rows;
  }

  powerCut(): void {
    // It runs elsewhere.
  }

  readonly definition = (process: TargetProcess): SinkDefinition => {
    const step = stepsOf(process, this.#random, this.#temper);
    return defineSink({
      type: "sim_table",
      summary: "A simulated database.",
      options: z.unknown(),
      guarantee: "exactly_once",
      concurrency: this.#concurrency,
      open: async (): Promise<Sink> => {
        await step();
        this.#epoch += 1;
        const epoch = this.#epoch;
        return {
          recover: async (): Promise<Recovered> => {
            await step();
            if (this.#random.chance(this.#temper.fail)) throw new Error("the simulated database is away");
            const positions = [...this.#positions].map(([key, set]) => {
              const [source, file, way] = key.split("\0") as [string, string, string];
              return { source, file, way, value: set.snapshot() };
            });
            await step();
            return { positions };
          },
          write: async (batch, { way = "" }): Promise<Outcome> => {
            await step();
            if (this.#random.chance(this.#temper.fail)) return retry("the simulated database is busy");
            const texts = textsOf(batch);
            if (texts.some((text) => text.includes(POISON))) return rejected("a constraint says no");
            if (epoch !== this.#epoch) return retry("fenced off");
            this.#rows.push(...texts);
            const key = `${batch.origin.source}\0${batch.origin.key}\0${way}`;
            const set = this.#positions.get(key) ?? new SettledSet();
            for (const range of batch.ranges) set.add(range);
            this.#positions.set(key, set);
            await step();
            if (this.#random.chance(this.#temper.lostAnswer))
              return retry("the answer got lost", { isOutcomeUnknown: true });
            return delivered();
          },
          async [Symbol.asyncDispose]() {},
        };
      },
    });
  };
}

/** As a plain server: at least once, several requests at a time, and answers get lost. */
export class ServerTarget implements SimTarget {
  readonly isExactlyOnce = false;
  readonly options = {};
  readonly #random: SeededRandom;
  readonly #temper: Temper;
  readonly #concurrency: number;
  readonly #received: string[] = [];

  constructor(random: SeededRandom, temper: Temper, concurrency: number) {
    this.#random = random;
    this.#temper = temper;
    this.#concurrency = concurrency;
  }

  lines(): readonly string[] {
    return this.#received;
  }

  powerCut(): void {
    // It runs elsewhere.
  }

  readonly definition = (process: TargetProcess): SinkDefinition => {
    const step = stepsOf(process, this.#random, this.#temper);
    return defineSink({
      type: "sim_server",
      summary: "A simulated server.",
      options: z.unknown(),
      guarantee: "at_least_once",
      concurrency: this.#concurrency,
      open: async (): Promise<Sink> => ({
        write: async (batch): Promise<Outcome> => {
          await step();
          if (this.#random.chance(this.#temper.fail)) return retry("503");
          const texts = textsOf(batch);
          if (texts.some((text) => text.includes(POISON))) return rejected("400");
          this.#received.push(...texts);
          await step();
          return this.#random.chance(this.#temper.lostAnswer) ? retry("timed out") : delivered();
        },
        async [Symbol.asyncDispose]() {},
      }),
    });
  };
}
