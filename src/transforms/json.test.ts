import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { StageContext } from "../stage/index.ts";
import { contractBatch } from "../testing/transform-contract.ts";
import { json } from "./json.ts";

async function applied(texts: readonly string[], options: object = {}) {
  const transform = await json.open(json.options.parse(options), {} as StageContext);
  return transform.apply(contractBatch(texts).records);
}

const eventOf = async (text: string) => (await applied([text])).kept[0]?.event;
const reasonOf = async (text: string) => (await applied([text])).rejected?.[0]?.reason;

describe("json", () => {
  it("merges the parsed keys over the event, and leaves id and position as they are", async () => {
    const { kept } = await applied(["{}", '{"level":"warn","offset":"mine","message":"hello"}']);
    expect(kept[1]!.event).toEqual({
      timestamp: "1970-01-01T00:00:00.000Z",
      message: "hello",
      source: "contract",
      file: "/contract",
      offset: "mine",
      host: "test",
      level: "warn",
    });
    expect(kept[1]!.offset).toBe(3);
    expect(kept[1]!.id).toMatch(/:3$/);
  });

  it.each([
    ["hello world", `the field "message" is no JSON object: Unexpected token 'h'; it starts with "hello world"`],
    ["", `the field "message" is no JSON object: it is empty; it starts with ""`],
    ["[1]", `the field "message" is no JSON object but a list: "[1]"`],
    ["null", `the field "message" is no JSON object but null: "null"`],
    ['"x"', `the field "message" is no JSON object but a string: "\\"x\\""`],
    ["1", `the field "message" is no JSON object but a number: "1"`],
    ['{"a":1e999}', `the field "message" holds a number that is too large; it starts with "{\\"a\\":1e999}"`],
  ])("refuses %j in plain words", async (text, reason) => {
    expect(await reasonOf(text)).toBe(reason);
  });

  it("shows no more than the first 60 characters", async () => {
    expect(await reasonOf(`x${"y".repeat(500)}`)).toContain(`it starts with "x${"y".repeat(59)}"...`);
    expect(await reasonOf(`{"a":"${"y".repeat(500)}`)).not.toContain("y".repeat(61));
  });

  it("keeps a __proto__ key as data and pollutes nothing", async () => {
    const event = await eventOf('{"__proto__":{"polluted":true}}');
    expect(Object.getPrototypeOf(event)).toBe(Object.prototype);
    expect(JSON.stringify(event)).toContain('"__proto__":{"polluted":true}');
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  it("takes the last of duplicate keys, and ignores a byte-order mark and a carriage return", async () => {
    expect(await eventOf('\ufeff{"a":1,"a":2}\r')).toMatchObject({ a: 2 });
  });

  it("refuses nesting beyond 1000 levels, and counts no brackets inside strings", async () => {
    const nested = (levels: number) =>
      `{"a":${"[".repeat(levels - 1)}"]"${"]".repeat(levels - 1)},"pad":"${"x".repeat(3000)}"}`;
    expect(await eventOf(nested(1000))).toBeDefined();
    expect(await reasonOf(nested(1001))).toContain("nested deeper than 1000");
    expect(await eventOf(JSON.stringify({ a: `\\"${"[{".repeat(5000)}`, b: "\\" }))).toBeDefined();
  });

  it("parses another field, and says what is wrong with it", async () => {
    const transform = await json.open(json.options.parse({ field: "body" }), {} as StageContext);
    const records = contractBatch(["a", "b", "c"]).records;
    const { kept, rejected } = await transform.apply([
      records[0]!.with({ body: '{"x":1}', y: 2 }),
      records[1]!.with({ body: 5 }),
      records[2]!,
    ]);
    expect(kept.map(({ event }) => event)).toEqual([{ body: '{"x":1}', y: 2, x: 1 }]);
    expect(rejected?.map(({ reason }) => reason)).toEqual([
      'the field "body" is no text but a number',
      'the field "body" is missing',
    ]);
  });

  it("gives what JSON.parse gives, for every object", async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.string(), fc.jsonValue()), async (object) => {
        const text = JSON.stringify(object);
        const event = await eventOf(text);
        const parsed = JSON.parse(text) as object;
        expect(Object.fromEntries(Object.keys(parsed).map((key) => [key, event![key]]))).toEqual(parsed);
      }),
    );
  });
});
