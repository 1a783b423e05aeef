import { describe, expect, it } from "vitest";
import { firstSeed } from "../../test/seed.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { fileSink } from "../sinks/file.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { MortalSink, namedBatches, namedLines } from "./mortal-sink.test-kit.ts";

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

const mortalSink = (options: object, random: SeededRandom, disk = {}) =>
  new MortalSink(fileSink, { encoding: "raw", ...options }, random, disk);

/** The outputs hold every line of so many batches, each once and in order. */
async function expectExactly(sink: MortalSink, batches: number, origins: number, what = "the outputs"): Promise<void> {
  const found = await sink.clock.run(outputs(sink.files));
  for (let origin = 0; origin < origins; origin += 1) {
    const name = origins === 1 ? "out" : `s${origin}`;
    const expected = namedLines(batches).filter((_, line) => Math.floor(line / 2) % origins === origin);
    expect(found.get(name) ?? [], what).toEqual(expected);
  }
}

describe.each(Object.keys(SCENARIOS))("file sink › %s", (name) => {
  const { options, origins, max } = SCENARIOS[name]!;
  const input = namedBatches(COUNT, origins);

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
        const sink = mortalSink(options, new SeededRandom(at + 1));
        sink.dieAtCall(at, when);
        if (!(await sink.diesIn(input))) break;
        await sink.restart(keep);
        const driver = await sink.open();
        // Nobody else was there: nothing may look as if.
        expect(driver.events).toEqual([]);
        await expectExactly(sink, sink.store.committedBatches, origins);
        await sink.clock.run(driver.run(input));
        await sink.clock.run(driver.close());
        await expectExactly(sink, COUNT, origins);
        // And a clean stop is one that the next start accepts.
        await sink.clock.run((await sink.open()).close());
      }
      // The last run was one without a crash, so every call of it was tried.
      expect(at).toBeGreaterThan(20);
      expect(at).toBeLessThan(max);
    },
  );

  it.each(["refused", "done but unanswered"] as const)(
    "holds exactly what is committed when the process dies at a commit that is %s",
    async (how) => {
      let at = 0;
      for (; at < 60; at += 1) {
        const sink = mortalSink(options, new SeededRandom(at + 1));
        sink.dieAtCommit(at, how);
        if (!(await sink.diesIn(input))) break;
        await sink.restart("nothing");
        const driver = await sink.open();
        await expectExactly(sink, sink.store.committedBatches, origins);
        await sink.clock.run(driver.run(input));
        await expectExactly(sink, COUNT, origins);
      }
      expect(at).toBeGreaterThan(3);
      expect(at).toBeLessThan(60);
    },
  );

  it("holds exactly what is committed through failing calls, short writes and delays, and dies where it may", {
    timeout: 300_000,
  }, async () => {
    const seed = firstSeed();
    const rounds = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 15);
    const calls = ["write", "datasync", "truncate", "open", "stat", "fstat", "syncFolder", "sync"] as const;
    const long = namedBatches(3 * COUNT, origins);
    for (let round = 0; round < rounds; round += 1) {
      const random = new SeededRandom(seed + round);
      const sink = mortalSink(options, random.fork(), { delayChance: 0.3, delayMs: 5, shortWrites: 0.2 });
      const what = `seed ${seed}, round ${round}`;
      for (let life = 0; life < 3; life += 1) {
        await sink.suffer(long, random, { calls, lastCall: 120 });
        await sink.restart(sink.store.wasCleanStop ? "nothing" : "anything");
        const check = await sink.open();
        await expectExactly(sink, sink.store.committedBatches, origins, what);
        await sink.clock.run(check.close());
        sink.store.wasCleanStop = false;
      }
      await sink.live(long);
      await expectExactly(sink, 3 * COUNT, origins, what);
    }
  });
});
