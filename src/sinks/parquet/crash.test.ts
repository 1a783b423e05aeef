import { beforeAll, describe, expect, it } from "vitest";
import { firstSeed } from "../../../test/seed.ts";
import { MortalSink, namedBatches, namedLines } from "../../outputs/mortal-sink.test-kit.ts";
import { SeededRandom } from "../../testing/seeded-random.ts";
import { parquetSink } from "../parquet.ts";
import { loadParquetLibrary } from "./parquet-file.ts";
import { finishedFiles } from "./read-back.test-kit.ts";

const COUNT = 8;

/** Each so many-th call is tried, from a random one on; with TAILRACE_TEST_ROUNDS all of them. */
const STRIDE = process.env["TAILRACE_TEST_ROUNDS"] === undefined ? 7 : 1;
const SEED = firstSeed();

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

/** Every line of every batch once, in order within its file, and nothing beside finished files. */
async function expectExactly(sink: MortalSink, origins: number, what: string, count = COUNT): Promise<void> {
  const { others, rows } = await sink.clock.run(finishedFiles(sink.files, "/data"));
  expect(others, what).toEqual([]);
  const messages = [...rows.values()].flat().map(({ message }) => String(message));
  const expected = namedLines(count);
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

  const input = namedBatches(COUNT, origins);

  it.each([
    ["before", "everything"],
    ["after", "everything"],
    ["before", "nothing"],
    ["after", "anything"],
  ] as const)(
    "has every record in one finished file, whatever call the process dies at (%s its effect, the page cache keeps %s)",
    async (when, keep) => {
      let at = SEED % STRIDE;
      for (; at < max; at += STRIDE) {
        const sink = new MortalSink(parquetSink, options, new SeededRandom(at + 1));
        sink.dieAtCall(at, when);
        if (!(await sink.diesIn(input))) break;
        await sink.restart(keep);
        const driver = await sink.open();
        await sink.clock.run(driver.run(input));
        await sink.clock.run(driver.close());
        // Nobody else was there: nothing may look as if.
        expect(driver.events).toEqual([]);
        await expectExactly(sink, origins, `seed ${SEED}, death at call ${at}`);
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
      let at = SEED % stride;
      for (; at < 100; at += stride) {
        const sink = new MortalSink(parquetSink, options, new SeededRandom(at + 1));
        sink.dieAtCommit(at, how);
        if (!(await sink.diesIn(input))) break;
        await sink.restart("nothing");
        await sink.live(input);
        await expectExactly(sink, origins, `death at commit ${at}`);
      }
      expect(at).toBeGreaterThan(5);
      expect(at).toBeLessThan(100);
    },
  );

  it("has every record in one finished file through failing calls, short writes and delays, and dies where it may", {
    timeout: 180_000,
  }, async () => {
    const rounds = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 8);
    const calls = ["write", "datasync", "truncate", "open", "rename", "syncFolder", "sync", "unlink"] as const;
    const long = namedBatches(3 * COUNT, origins);
    for (let round = 0; round < rounds; round += 1) {
      const random = new SeededRandom(SEED + round);
      const disk = { delayChance: 0.3, delayMs: 5, shortWrites: 0.2 };
      const sink = new MortalSink(parquetSink, options, random.fork(), disk);
      for (let life = 0; life < 3; life += 1) {
        await sink.suffer(long, random, { calls, lastCall: 250 });
        const keep = random.pick(["everything", "nothing", "anything"] as const);
        await sink.restart(sink.store.wasCleanStop ? "everything" : keep);
      }
      await sink.live(long);
      await expectExactly(sink, origins, `seed ${SEED}, round ${round}`, 3 * COUNT);
    }
  });
});
