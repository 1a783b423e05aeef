import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeRecords } from "../codec/encode.ts";
import { isThreaded, type ThreadedTransform } from "../pipeline/threaded-transform.ts";
import { PackedEvents } from "../record/packed-events.ts";
import { systemClock } from "../runtime/clock.ts";
import type { StageContext } from "../stage/index.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { filter } from "../transforms/filter.ts";
import { json } from "../transforms/json.ts";
import { map } from "../transforms/map.ts";
import { type RunStage, transformRun } from "./transform-run.ts";

const context = { name: "run", host: "test", stateDir: "/state", clock: systemClock } as StageContext;

/** Splits what says so, leaves out what says so, refuses what says so, ends its thread where it is told to. */
const MODULE = `
export default ({ message, ...event }) => {
  if (event.end === true) process.exit(3);
  if (event.fail === true) throw new Error("told to fail");
  if (event.none === true) return undefined;
  if (typeof event.times === "number") return Array.from({ length: event.times }, (_, part) => ({ ...event, part }));
  event.added = "yes";
  return event;
};`;

describe("transforms in threads", () => {
  let folder: string;
  let stages: readonly RunStage[];

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "tailrace-threads-"));
    const module = join(folder, "shape.mjs");
    writeFileSync(module, MODULE);
    stages = [
      { name: "parse", definition: json, options: json.options.parse({}) },
      { name: "keep", definition: filter, options: filter.options.parse({ condition: "not (drop == true)" }) },
      { name: "shape", definition: map, options: map.options.parse({ module }) },
    ];
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const open = async (threads: number): Promise<ThreadedTransform> => {
    const run = await transformRun.open({ threads, stages }, context);
    if (!isThreaded(run)) throw new Error("it does not work in threads");
    return run;
  };

  it("make the same of every line as the agent's own thread does, however many batches are on their way", async () => {
    await using run = await open(2);
    const event = fc.record(
      {
        text: fc.string({ unit: "binary", maxLength: 20 }),
        number: fc.double(),
        drop: fc.boolean(),
        none: fc.boolean(),
        fail: fc.boolean(),
        times: fc.nat(3),
      },
      { requiredKeys: [] },
    );
    const line = fc.oneof(
      { weight: 4, arbitrary: event.map((fields) => JSON.stringify(fields)) },
      { weight: 1, arbitrary: fc.constantFrom("", "no JSON", "[1]", "{", '{"a":1e999}') },
    );
    const batch = fc.array(line, { minLength: 1, maxLength: 150 });
    await fc.assert(
      fc.asyncProperty(fc.array(batch, { minLength: 1, maxLength: 4 }), async (texts) => {
        const batches = texts.map((each, index) => linesBatch("app", `f${index}`, 10 * index, each));
        const there = await Promise.all(batches.map((each) => run.applyThere(each)));
        for (const [index, made] of there.entries()) {
          const { records, origin, lines } = batches[index]!;
          const { kept, rejected = [] } = await run.apply(records);
          const here = Buffer.concat(encodeRecords(kept, "json"));
          expect(made.json.toString()).toBe(here.toString());
          expect([...made.indexes]).toEqual(kept.map((record) => record.index));
          expect([...made.splits]).toEqual(kept.map((record) => record.split));
          expect(made.rejected.map(({ index: at, reason }) => [records[at]!.id, reason])).toEqual(
            rejected.map(({ record, reason }) => [record.id, reason]),
          );
          const { json: bytes, indexes, splits } = made;
          const packed = new PackedEvents({ json: bytes, origin, pieces: [lines!], indexes, splits });
          expect(packed.records().map(({ id, event: fields }) => [id, fields])).toEqual(
            kept.map(({ id, event: fields }) => [id, JSON.parse(JSON.stringify(fields))]),
          );
          made.release();
        }
      }),
      { numRuns: 20 },
    );
  });

  it("take lines that are larger than their memory", async () => {
    await using run = await open(1);
    const text = JSON.stringify({ text: "x".repeat(1_000_000) });
    for (let round = 0; round < 3; round += 1) {
      const made = await run.applyThere(linesBatch("app", "f", 0, [text, "{}", text]));
      expect(made.json.toString().match(/"added":"yes"/g)).toHaveLength(3);
      expect(made.json.length).toBeGreaterThan(2_000_000);
      made.release();
    }
  });

  it("say which of several refused a record, which is refused as it came in", async () => {
    await using run = await open(1);
    const batch = linesBatch("app", "f", 0, ["no JSON", '{"fail":true}']);
    const { rejected } = await run.applyThere(batch);
    expect(rejected.map(({ reason }) => reason)).toEqual([
      expect.stringMatching(/^parse: the field "message" is no JSON object/),
      "shape: the function failed: told to fail",
    ]);
    const here = await run.apply(batch.records);
    expect(here.rejected?.map(({ record }) => record.isUntouched)).toEqual([true, true]);
  });

  it("fail what they have, and all that comes later, when one of them ends by itself", async () => {
    await using run = await open(2);
    const death = "one of its threads ended with code 3";
    const given = Array.from({ length: 4 }, () => run.applyThere(linesBatch("app", "f", 0, ['{"end":true}'])));
    for (const made of given) await expect(made).rejects.toThrow(death);
    await expect(run.applyThere(linesBatch("app", "f", 0, ["{}"]))).rejects.toThrow(death);
  });

  it("are not started where a transform cannot be opened", async () => {
    const missing = {
      name: "shape",
      definition: map,
      options: map.options.parse({ module: join(folder, "none.mjs") }),
    };
    await expect(transformRun.open({ threads: 1, stages: [...stages, missing] }, context)).rejects.toThrow("none.mjs");
  });
});
