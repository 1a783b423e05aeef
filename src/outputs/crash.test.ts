import { describe, expect, it } from "vitest";
import type { Batch } from "../record/index.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { fileSink } from "../sinks/file.ts";
import { FaultyFileSystem, SimulatedCrash } from "../testing/faulty-file-system.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { SimDisk } from "../testing/sim-disk.ts";
import { SimFileSystem } from "../testing/sim-file-system.ts";
import { DriverStore, SinkDriver } from "../testing/sink-driver.ts";

/** Batches of two lines whose texts name them; their origin changes, so that templates spread them. */
function batches(count: number, origins = 1): Batch[] {
  return Array.from({ length: count }, (_, index) =>
    linesBatch(`s${index % origins}`, "k", index * 100, [`batch ${index} a`, `batch ${index} b`]),
  );
}

const linesOf = (count: number) =>
  Array.from({ length: count }, (_, index) => [`batch ${index} a`, `batch ${index} b`]).flat();

/** All output files, current and closed, in the order they were written. */
async function outputs(files: FileSystem): Promise<Map<string, string[]>> {
  const folder = pathFromText("/data");
  const names = (await files.readdir(folder).catch(() => [])).map((entry) => String(entry.name));
  const lines = new Map<string, string[]>();
  for (const name of names.sort(inOrderOfClosing)) {
    const handle = await files.open(pathFromText(`/data/${name}`), "read");
    const bytes = Buffer.alloc(100_000);
    let length = 0;
    for (let read = -1; read !== 0; length += read)
      read = await handle.read(bytes, length, bytes.length - length, length);
    await handle.close();
    const text = bytes.toString("utf8", 0, length);
    expect(text === "" || text.endsWith("\n"), `${name} ends within a line`).toBe(true);
    const output = name.split(".ndjson")[0]!;
    lines.set(output, [...(lines.get(output) ?? []), ...text.split("\n").slice(0, -1)]);
  }
  return lines;
}

/** Closed ones by time and number, the one that is written last. */
function inOrderOfClosing(one: string, other: string): number {
  const rank = (name: string) => {
    const match = /\.ndjson(?:\.(\w+?)Z(?:-(\d+))?)?$/.exec(name)!;
    return match[1] === undefined ? "~" : `${match[1]}-${(match[2] ?? "0").padStart(5, "0")}`;
  };
  return rank(one) < rank(other) ? -1 : 1;
}

interface World {
  readonly clock: ManualClock;
  readonly disk: SimDisk;
  readonly store: DriverStore;
}

const SCENARIOS: { [name: string]: { options: object; origins: number; max: number } } = {
  "one output": { options: { path: "/data/out.ndjson" }, origins: 1, max: 200 },
  "an output that rotates": {
    options: { path: "/data/out.ndjson", rotate: { max_bytes: 60, keep: 0 } },
    origins: 1,
    max: 400,
  },
  "outputs by template": {
    options: { path: "/data/{source}.ndjson", max_open_outputs: 2, rotate: { max_bytes: 80 } },
    origins: 3,
    max: 600,
  },
};

const COUNT = 8;

async function openOn(files: FileSystem, world: World, options: object): Promise<SinkDriver> {
  const parsed = fileSink.options.parse({ encoding: "raw", ...options });
  return SinkDriver.open({
    open: (context) => fileSink.open(parsed, context),
    store: world.store,
    fileSystem: files,
    clock: world.clock,
    stateDir: "/state",
  });
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
    return files.isCrashed;
  } catch (error) {
    if (!files.isCrashed) throw error;
    return true;
  }
}

function expectExactly(
  found: Map<string, string[]>,
  committedBatches: number,
  origins: number,
  what = "the outputs",
): void {
  for (let origin = 0; origin < origins; origin += 1) {
    const name = origins === 1 ? "out" : `s${origin}`;
    const expected = linesOf(committedBatches).filter((_, line) => Math.floor(line / 2) % origins === origin);
    expect(found.get(name) ?? [], what).toEqual(expected);
  }
}

describe.each(Object.keys(SCENARIOS))("file sink › %s", (name) => {
  const { options, origins, max } = SCENARIOS[name]!;

  it.each([
    ["before", "everything"],
    ["after", "everything"],
    ["before", "nothing"],
    ["after", "anything"],
  ] as const)(
    "holds exactly what is committed, whatever call the process dies at (%s its effect, the page cache keeps %s)",
    async (when, keep) => {
      let at = 0;
      for (; at < max; at += 1) {
        const clock = new ManualClock();
        const disk = new SimDisk({ clock, random: new SeededRandom(at + 1) });
        const world: World = { clock, disk, store: new DriverStore() };
        const sim = new SimFileSystem(disk);
        const files = new FaultyFileSystem(sim);
        files.crashAt(at, when);
        // A process that is gone commits nothing.
        world.store.onCommit = () => {
          if (files.isCrashed) throw new SimulatedCrash();
        };
        if (!(await runUntilCrash(files, world, options, batches(COUNT, origins)))) break;
        world.store.onCommit = () => {};
        const again = sim.crash(keep);
        const driver = await clock.run(openOn(again, world, options));
        const { committedBatches } = world.store;
        // Nobody else was there: nothing may look as if.
        expect(driver.events).toEqual([]);
        expectExactly(await clock.run(outputs(again)), committedBatches, origins);
        await clock.run(driver.run(batches(COUNT, origins)));
        await clock.run(driver.close());
        expectExactly(await clock.run(outputs(again)), COUNT, origins);
        // And a clean stop is one that the next start accepts.
        await clock.run((await clock.run(openOn(again, world, options))).close());
      }
      // The last run was one without a crash, so every call of it was tried.
      expect(at).toBeGreaterThan(20);
      expect(at).toBeLessThan(max);
    },
  );

  it.each(["refused", "done but unanswered"] as const)(
    "holds exactly what is committed when the process dies at a commit that is %s",
    async (how) => {
      for (let at = 0; at < 60; at += 1) {
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
          void files.end();
          throw new SimulatedCrash();
        };
        if (how === "refused") world.store.onCommit = die;
        else world.store.afterCommit = die;
        const crashed = await runUntilCrash(files, world, options, batches(COUNT, origins));
        world.store.onCommit = () => {};
        world.store.afterCommit = () => {};
        if (!crashed) {
          expect(at).toBeGreaterThan(3);
          return;
        }
        const again = sim.crash("nothing");
        const driver = await clock.run(openOn(again, world, options));
        expectExactly(await clock.run(outputs(again)), world.store.committedBatches, origins);
        await clock.run(driver.run(batches(COUNT, origins)));
        expectExactly(await clock.run(outputs(again)), COUNT, origins);
      }
      throw new Error("the scenario has more commits than expected");
    },
  );

  it("holds exactly what is committed through failing calls, short writes and delays, and dies where it may", {
    timeout: 300_000,
  }, async () => {
    const seed = Number(process.env["TAILRACE_TEST_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
    const rounds = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 15);
    for (let round = 0; round < rounds; round += 1) {
      const random = new SeededRandom(seed + round);
      const clock = new ManualClock();
      const disk = new SimDisk({ clock, random: random.fork() });
      const world: World = { clock, disk, store: new DriverStore() };
      let sim = new SimFileSystem(disk, { delayChance: 0.3, delayMs: 5, shortWrites: 0.2 });
      const what = `seed ${seed}, round ${round}`;
      for (let life = 0; life < 4; life += 1) {
        const files = new FaultyFileSystem(sim);
        const isLast = life === 3;
        if (!isLast) {
          for (const call of [
            "write",
            "datasync",
            "truncate",
            "open",
            "stat",
            "fstat",
            "syncFolder",
            "sync",
          ] as const) {
            files.fail({
              call,
              after: random.int(5, 40),
              times: random.int(1, 3),
              fails: random.chance(0.5) ? "EIO" : "ENOSPC",
            });
          }
          files.crashAt(random.int(10, 120), random.chance(0.5) ? "before" : "after");
        }
        world.store.onCommit = () => {
          if (files.isCrashed) throw new SimulatedCrash();
          if (!isLast && random.chance(0.05)) throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
        };
        try {
          await clock.run(
            (async () => {
              const driver = await openOn(files, world, options);
              await driver.run(batches(3 * COUNT, origins));
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
        sim = sim.crash(wasClean ? "nothing" : "anything");
        const check = await clock.run(openOn(sim, world, options));
        expectExactly(await clock.run(outputs(sim)), world.store.committedBatches, origins, what);
        await clock.run(check.close());
        world.store.wasCleanStop = false;
      }
      expectExactly(await clock.run(outputs(sim)), 3 * COUNT, origins, what);
    }
  });
});
