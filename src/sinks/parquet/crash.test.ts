import { beforeAll, describe, expect, it } from "vitest";
import type { Batch } from "../../record/index.ts";
import type { FileSystem } from "../../runtime/file-system.ts";
import { FaultyFileSystem, SimulatedCrash } from "../../testing/faulty-file-system.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import { linesBatch } from "../../testing/memory-stages.ts";
import { SeededRandom } from "../../testing/seeded-random.ts";
import { SimDisk } from "../../testing/sim-disk.ts";
import { SimFileSystem } from "../../testing/sim-file-system.ts";
import { DriverStore, SinkDriver } from "../../testing/sink-driver.ts";
import { parquetSink } from "../parquet.ts";
import { loadParquetLibrary } from "./parquet-file.ts";
import { finishedFiles } from "./read-back.test-kit.ts";

const COUNT = 8;

/** Each so many-th call is tried, from a random one on; with TAILRACE_TEST_ROUNDS all of them. */
const STRIDE = process.env["TAILRACE_TEST_ROUNDS"] === undefined ? 7 : 1;
const SEED = Number(process.env["TAILRACE_TEST_SEED"] ?? Math.floor(Math.random() * 2 ** 31));

/** Batches of two lines whose texts name them. */
function batches(origins: number, count = COUNT): Batch[] {
  return Array.from({ length: count }, (_, index) =>
    linesBatch(`s${index % origins}`, "k", index * 100, [`batch ${index} a`, `batch ${index} b`]),
  );
}

const SCENARIOS: { [name: string]: { options: object; origins: number; max: number } } = {
  "one file": { options: { path: "/data/out.parquet" }, origins: 1, max: 300 },
  "a file that rotates": {
    options: { path: "/data/out.parquet", rotate: { max_bytes: 150 }, row_group_records: 3 },
    origins: 1,
    max: 600,
  },
  "files by template": {
    options: { path: "/data/{source}-{time:%H%M%S}.parquet", max_open_outputs: 2 },
    origins: 3,
    max: 800,
  },
};

interface World {
  readonly clock: ManualClock;
  readonly disk: SimDisk;
  readonly store: DriverStore;
}

async function openOn(files: FileSystem, { store, clock }: World, options: object): Promise<SinkDriver> {
  const parsed = parquetSink.options.parse(options);
  const open = (context: Parameters<typeof parquetSink.open>[1]) => parquetSink.open(parsed, context);
  return SinkDriver.open({ open, store, fileSystem: files, clock, stateDir: "/state" });
}

/** Runs until the crash; true if it came before the end. */
async function runUntilCrash(files: FaultyFileSystem, world: World, options: object, input: Batch[]): Promise<boolean> {
  try {
    await world.clock.run(
      (async () => {
        const driver = await openOn(files, world, options);
        await driver.run(input);
        await driver.close();
      })(),
    );
  } catch (error) {
    if (!files.isCrashed) throw error;
  }
  return files.isCrashed;
}

/** Every line of every batch once, in order within its file, and nothing beside finished files. */
async function expectExactly(files: FileSystem, origins: number, what: string, count = COUNT): Promise<void> {
  const { others, rows } = await finishedFiles(files, "/data");
  expect(others, what).toEqual([]);
  const messages = [...rows.values()].flat().map(({ message }) => String(message));
  const expected = Array.from({ length: count }, (_, index) => [`batch ${index} a`, `batch ${index} b`]).flat();
  expect([...messages].sort(), what).toEqual([...expected].sort());
  const place = new Map(expected.map((message, index) => [message, index]));
  for (const [name, own] of rows) {
    const order = own.map(({ message }) => place.get(String(message))!);
    expect(order, `${what}: ${name}`).toEqual([...order].sort((one, other) => one - other));
    if (origins > 1) expect(new Set(own.map(({ source }) => source)).size, name).toBe(1);
  }
}

/** Loaded in real time, which a clock that stands still would wait for in vain. */
beforeAll(async () => {
  await loadParquetLibrary("out", "snappy");
});

describe.each(Object.keys(SCENARIOS))("parquet sink › %s", (name) => {
  const { options, origins, max } = SCENARIOS[name]!;

  it.each([
    ["before", "everything"],
    ["after", "everything"],
    ["before", "nothing"],
    ["after", "anything"],
  ] as const)(
    "has every record in one finished file, whatever call the process dies at (%s its effect, the page cache keeps %s)",
    { timeout: 60_000 },
    async (when, keep) => {
      let at = SEED % STRIDE;
      for (; at < max; at += STRIDE) {
        const clock = new ManualClock();
        const world: World = {
          clock,
          disk: new SimDisk({ clock, random: new SeededRandom(at + 1) }),
          store: new DriverStore(),
        };
        const sim = new SimFileSystem(world.disk);
        const files = new FaultyFileSystem(sim);
        files.crashAt(at, when);
        // A process that is gone commits nothing.
        world.store.onCommit = () => {
          if (files.isCrashed) throw new SimulatedCrash();
        };
        if (!(await runUntilCrash(files, world, options, batches(origins)))) break;
        world.store.onCommit = () => {};
        const again = sim.crash(keep);
        const driver = await clock.run(openOn(again, world, options));
        await clock.run(driver.run(batches(origins)));
        await clock.run(driver.close());
        // Nobody else was there: nothing may look as if.
        expect(driver.events).toEqual([]);
        await clock.run(expectExactly(again, origins, `seed ${SEED}, death at call ${at}`));
      }
      // The last run was one without a crash, so calls of all of it were tried.
      expect(at).toBeGreaterThan(30);
      expect(at).toBeLessThan(max);
    },
  );

  it.each(["refused", "done but unanswered"] as const)(
    "has every record in one finished file when the process dies at a commit that is %s",
    async (how) => {
      const stride = STRIDE === 1 ? 1 : 2;
      for (let at = SEED % stride; at < 100; at += stride) {
        const clock = new ManualClock();
        const world: World = {
          clock,
          disk: new SimDisk({ clock, random: new SeededRandom(at + 1) }),
          store: new DriverStore(),
        };
        const sim = new SimFileSystem(world.disk);
        const files = new FaultyFileSystem(sim);
        let commits = 0;
        const die = () => {
          commits += 1;
          if (commits <= at) return;
          files.end().catch(() => {});
          throw new SimulatedCrash();
        };
        if (how === "refused") world.store.onCommit = die;
        else world.store.afterCommit = die;
        const crashed = await runUntilCrash(files, world, options, batches(origins));
        world.store.onCommit = () => {};
        world.store.afterCommit = () => {};
        if (!crashed) {
          expect(at).toBeGreaterThan(5);
          return;
        }
        const again = sim.crash("nothing");
        const driver = await clock.run(openOn(again, world, options));
        await clock.run(driver.run(batches(origins)));
        await clock.run(driver.close());
        await clock.run(expectExactly(again, origins, `death at commit ${at}`));
      }
      throw new Error("the scenario has more commits than expected");
    },
  );

  it("has every record in one finished file through failing calls, short writes and delays, and dies where it may", {
    timeout: 60_000,
  }, async () => {
    const rounds = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 8);
    for (let round = 0; round < rounds; round += 1) {
      const random = new SeededRandom(SEED + round);
      const clock = new ManualClock();
      const disk = new SimDisk({ clock, random: random.fork() });
      const world: World = { clock, disk, store: new DriverStore() };
      let sim = new SimFileSystem(disk, { delayChance: 0.3, delayMs: 5, shortWrites: 0.2 });
      for (let life = 0; life < 4; life += 1) {
        const files = new FaultyFileSystem(sim);
        const isLast = life === 3;
        if (!isLast) {
          for (const call of [
            "write",
            "datasync",
            "truncate",
            "open",
            "rename",
            "syncFolder",
            "sync",
            "unlink",
          ] as const) {
            const fails = random.chance(0.5) ? "EIO" : "ENOSPC";
            files.fail({ call, after: random.int(5, 40), times: random.int(1, 3), fails });
          }
          files.crashAt(random.int(10, 250), random.chance(0.5) ? "before" : "after");
        }
        world.store.onCommit = () => {
          if (files.isCrashed) throw new SimulatedCrash();
          if (!isLast && random.chance(0.05)) throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
        };
        try {
          await clock.run(
            (async () => {
              const driver = await openOn(files, world, options);
              await driver.run(batches(origins, 3 * COUNT));
              await driver.close();
            })(),
          );
        } catch (error) {
          // A start or a commit that fails ends a life, too; the driver is no supervisor.
          if (isLast) throw error;
        }
        await clock.run(files.end());
        world.store.onCommit = () => {};
        if (isLast) break;
        const wasClean = world.store.wasCleanStop;
        sim = sim.crash(wasClean ? "everything" : random.pick(["everything", "nothing", "anything"]));
      }
      await clock.run(expectExactly(sim, origins, `seed ${SEED}, round ${round}`, 3 * COUNT));
    }
  });
});
