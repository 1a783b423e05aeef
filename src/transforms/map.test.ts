import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DataRecord } from "../record/index.ts";
import { systemClock } from "../runtime/clock.ts";
import type { StageContext } from "../stage/index.ts";
import { contractBatch } from "../testing/transform-contract.ts";
import { type MapFunction, map, nestedSplit } from "./map.ts";

let folder: string;
let files = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-map-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function opened(source: string, options: object = {}) {
  files += 1;
  const module = join(folder, `shape-${files}.ts`);
  writeFileSync(module, source);
  return map.open(map.options.parse({ module, ...options }), { clock: systemClock } as StageContext);
}

async function applied(source: string, records: readonly DataRecord[], options: object = {}) {
  return (await opened(source, options)).apply(records);
}

const three = () => contractBatch(["a", "b", "c"]).records;

describe("map", () => {
  it("replaces, leaves out and splits, and keeps the order", async () => {
    const { kept, rejected } = await applied(
      `import type { Nothing } from "./does-not-matter.ts";
       export default (event: { message: string }) =>
         event.message === "a" ? { x: 1 } : event.message === "b" ? undefined : [{ y: 1 }, { y: 2 }];`,
      three(),
    );
    expect(rejected).toEqual([]);
    expect(kept.map(({ event }) => event)).toEqual([{ x: 1 }, { y: 1 }, { y: 2 }]);
    expect(kept.map(({ id }) => id.split(":")[1])).toEqual(["0", "4", "4.1"]);
  });

  it("hands each call an event of its own to change", async () => {
    const shared = { nested: { list: [1] } };
    const records = three().map((record) => record.with(shared));
    const { kept } = await applied(
      "export default (event: any) => { event.nested.list.push(2); event.more = true; return event; };",
      records,
    );
    expect(shared).toEqual({ nested: { list: [1] } });
    expect(kept.map(({ event }) => event)).toEqual(Array(3).fill({ nested: { list: [1, 2] }, more: true }));
  });

  it("refuses the record whose call throws, with the message, and goes on", async () => {
    const { kept, rejected } = await applied(
      `export default (event: any) => {
         if (event.message === "a") throw new Error("not today");
         if (event.message === "b") throw { toString: null };
         return event;
       };`,
      three(),
    );
    expect(kept).toHaveLength(1);
    expect(rejected?.map(({ reason }) => reason)).toEqual([
      "the function failed: not today",
      "the function failed: a value that cannot be shown",
    ]);
  });

  it.each([
    ["5", "a number, not an event"],
    ["null", "null, not an event"],
    ["new Map()", "a Map, not an event"],
    ["() => 1", "a function, not an event"],
    ["{ a: { b: 1n } }", 'its field "a.b" is a bigint'],
    ["{ a: [1, NaN] }", 'its field "a[1]" is NaN'],
    ["{ a: Symbol() }", 'its field "a" is a symbol'],
    ["{ a: new Set() }", 'its field "a" is a Set, not plain data'],
    ["{ a: new Date(NaN) }", 'its field "a" is an invalid Date'],
    ["{ get a() { throw new Error('gotcha') } }", "reading it failed: gotcha"],
    ["(() => { const a: any = {}; a.a = a; return a; })()", "contains itself"],
    ["(() => { const a: any = []; a.push(a); return { a }; })()", "contains itself"],
    ["[{}, 5]", "item 1 of the list that the function returned is no event: it is a number"],
    ["new Proxy({}, { getPrototypeOf() { throw new Error('trap') } })", "trap"],
  ])("refuses the record for which it returns %s", async (value, reason) => {
    for (const source of [`export default () => (${value});`, `export default async () => (${value});`]) {
      const { kept, rejected } = await applied(source, three().slice(0, 1));
      expect(kept).toEqual([]);
      expect(rejected?.[0]?.reason).toContain(reason);
    }
  });

  it("leaves out keys that are symbols, and calls a getter once", async () => {
    const { kept } = await applied(
      `let calls = 0;
       export default () => ({ [Symbol("hidden")]: 1, get calls() { return ++calls; }, deep: { [Symbol("too")]: 2, x: 3 } });`,
      three(),
    );
    const events = kept.map(({ event }) => event);
    expect(events).toEqual([1, 2, 3].map((calls) => ({ calls, deep: { x: 3 } })));
    for (const event of events) expect(Object.getOwnPropertySymbols(event)).toEqual([]);
  });

  it("turns dates into text, leaves out what is undefined, and keeps __proto__ as data", async () => {
    const { kept } = await applied(
      `export default () => ({ at: new Date(0), gone: undefined, list: [undefined, 1], ["__proto__"]: { x: 1 }, nothing: null });`,
      three().slice(0, 1),
    );
    expect(JSON.stringify(kept[0]!.event)).toBe(
      '{"at":"1970-01-01T00:00:00.000Z","list":[null,1],"__proto__":{"x":1},"nothing":null}',
    );
  });

  it("keeps no reference to what the function returned", async () => {
    const { kept } = await applied(
      `const state: any = { n: 0, deep: { n: 0 } };
       export default () => { state.n += 1; state.deep.n += 1; return state; };`,
      three(),
    );
    expect(kept.map(({ event }) => event)).toEqual([1, 2, 3].map((n) => ({ n, deep: { n } })));
  });

  it("keeps the order of asynchronous calls that overlap, and never has more under way than allowed", async () => {
    const { kept, rejected } = await applied(
      `let running = 0; let most = 0;
       export default async (event: any) => {
         running += 1; most = Math.max(most, running);
         await new Promise((done) => setTimeout(done, event.message === "a" ? 20 : 1));
         running -= 1;
         if (event.message === "b") throw new Error("late");
         return { message: event.message, most };
       };`,
      three(),
      { concurrency: 2 },
    );
    expect(kept.map(({ event }) => event)).toEqual([
      { message: "a", most: 2 },
      { message: "c", most: 2 },
    ]);
    expect(rejected?.map(({ reason }) => reason)).toEqual(["the function failed: late"]);
  });

  it("refuses a record whose call never ends", async () => {
    const { rejected } = await applied("export default () => new Promise(() => {});", three().slice(0, 1), {
      timeout_ms: 5,
    });
    expect(rejected?.[0]?.reason).toBe("the function failed: it did not finish within 5 ms");
  });

  it("calls a function that was handed to it just as it calls a module's", async () => {
    const call: MapFunction = async (event) => (event["message"] === "b" ? [] : [event, { n: 1 }]);
    const transform = await map.open(map.options.parse({ function: call }), { clock: systemClock } as StageContext);
    const { kept, rejected } = await transform.apply(three());
    expect(kept.map(({ event }) => event["n"] ?? event["message"])).toEqual(["a", 1, "c", 1]);
    expect(rejected).toEqual([]);
  });

  it("wants a module or a function, and one of the two", () => {
    const whyNot = (options: object) =>
      map.options.safeParse(options).error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
    expect(whyNot({ module: "./shape.ts" })).toBeUndefined();
    expect(whyNot({})).toEqual(["module: is missing"]);
    expect(whyNot({ module: "./shape.ts", function: () => undefined })).toEqual([
      "function: there is a module too; give one of the two",
    ]);
    expect(whyNot({ module: (event: object) => event })).toEqual(["module: write it as `function`"]);
    expect(whyNot({ function: "(event) => event" })).toEqual([
      'function: only tailrace.config.ts can hold a function; a TOML names its file: module = "./shape.ts"',
    ]);
  });

  it("says what the module lacks", async () => {
    await expect(opened("export const other = 1;")).rejects.toThrow(
      /the default export must be a function .*; there is none/,
    );
    await expect(opened("export default { a: 1 };")).rejects.toThrow(/it is a Object/);
  });

  it("is told from a module that cannot be used before it is opened, and runs its top once for both", async () => {
    const checked = (name: string, source: string) => {
      writeFileSync(join(folder, name), source);
      return map.check!(map.options.parse({ module: join(folder, name) }));
    };
    expect(await map.check!(map.options.parse({ module: join(folder, "none.ts") }))).toEqual([
      { path: ["module"], message: `${join(folder, "none.ts")}: there is no such file` },
    ]);
    const [thrown] = await checked("throws.ts", 'throw new Error("not today");');
    expect(thrown?.message).toMatch(/throws\.ts:1: it could not be loaded: not today$/);
    expect(await checked("none.ts", "export const other = 1;")).toMatchObject([{ path: ["module"] }]);

    const counting = "globalThis.loads = (globalThis.loads ?? 0) + 1; export default (event: object) => event;";
    writeFileSync(join(folder, "counts.ts"), counting);
    const options = map.options.parse({ module: join(folder, "counts.ts") });
    const loads = () => (globalThis as { loads?: number }).loads;
    expect(await map.check!(options)).toEqual([]);
    await map.open(options, { clock: systemClock } as StageContext);
    expect(loads()).toBe(1);
    await map.open(options, { clock: systemClock } as StageContext);
    expect(loads()).toBe(2);
  });

  it("gives the parts of a part ids that no other part has", async () => {
    const twice = await opened("export default (event: any) => [event, event];");
    const once = await twice.apply(three());
    const again = await twice.apply(once.kept);
    expect(new Set(again.kept.map(({ id }) => id)).size).toBe(12);
    const single = await applied("export default (event: any) => event;", once.kept);
    expect(new Set(single.kept.map(({ id }) => id)).size).toBe(6);
  });
});

describe("nestedSplit", () => {
  it("leaves the parts of a whole record numbered from 0, and refuses what has no number", () => {
    expect([0, 1, 2].map((inner) => nestedSplit(0, inner))).toEqual([0, 1, 2]);
    expect(nestedSplit(0, 2 ** 20)).toBeUndefined();
    expect(nestedSplit(2 ** 40, 0)).toBeUndefined();
  });
});
