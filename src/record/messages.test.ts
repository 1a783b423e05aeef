import { describe, expect, it } from "vitest";
import { encodeBatch } from "../codec/encode.ts";
import { batchOf, letterOf } from "../dead-letters/letter.ts";
import { Batch, freshEvent, type Message, Messages, type Origin } from "./index.ts";

const origin: Origin = {
  source: "queue",
  key: "logs/0",
  kind: "replayable",
  recordIdPrefix: "abc",
  file: undefined,
};

const message = (number: number, fields: Message["fields"] = { n: number }): Message => ({
  number,
  body: Buffer.from(JSON.stringify(fields)),
  fields,
});

function batchOfMessages(messages: readonly Message[], range = { start: 0, end: messages.at(-1)!.number + 1 }): Batch {
  const bytes = messages.reduce((sum, { body }) => sum + body.length, 0);
  return Batch.ofMessages(origin, new Messages(messages, { readAtMs: 0, host: "here" }), range, bytes);
}

describe("messages", () => {
  it("are records whose range is their number and whose id carries it", () => {
    const batch = batchOfMessages([message(3), message(7)]);
    expect(batch.count).toBe(2);
    expect(batch.ranges).toEqual([{ start: 0, end: 8 }]);
    expect(batch.records.map(({ id }) => id)).toEqual(["abc:3", "abc:7"]);
    expect(batch.records[1]!.range).toEqual({ start: 7, end: 8 });
  });

  it("bring their fields, which win over the source's own, whatever their names", () => {
    const fields = JSON.parse('{"host":"there","__proto__":{"x":1}}') as Message["fields"];
    const { event } = batchOfMessages([message(1, fields)]).records[0]!;
    expect(JSON.stringify(event)).toBe(
      '{"timestamp":"1970-01-01T00:00:00.000Z","source":"queue","host":"there","__proto__":{"x":1}}',
    );
    expect(Object.getPrototypeOf(event)).toBe(Object.prototype);
  });

  it("are encoded as event, message or body", () => {
    const batch = batchOfMessages([message(1, { message: "one" }), message(2, { message: "two" })]);
    const text = (encoding: "json" | "text" | "raw") => Buffer.concat(encodeBatch(batch, encoding)).toString();
    expect(text("raw")).toBe('{"message":"one"}\n{"message":"two"}\n');
    expect(text("text")).toBe("one\ntwo\n");
    expect(
      text("json")
        .split("\n")
        .slice(0, 2)
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      { timestamp: "1970-01-01T00:00:00.000Z", source: "queue", host: "here", message: "one" },
      { timestamp: "1970-01-01T00:00:00.000Z", source: "queue", host: "here", message: "two" },
    ]);
  });

  it("are bisected so that the halves settle what the whole would", () => {
    const halves = batchOfMessages([message(3), message(7), message(9)]).halves()!;
    expect(halves.map(({ ranges }) => ranges)).toEqual([[{ start: 0, end: 7 }], [{ start: 7, end: 10 }]]);
  });

  it("leave the event of a branch alone when another changes its own", () => {
    const record = batchOfMessages([message(1)]).records[0]!;
    freshEvent(record)["n"] = 2;
    expect(record.event["n"]).toBe(1);
  });

  it("come back from the dead letters with id and event", () => {
    const [record] = batchOfMessages([message(5, { deep: { a: [1] } })]).records;
    const letter = letterOf(record!, { component: "out", reason: "no", attempts: 1, nowMs: 0 });
    const again = batchOf(letter, () => {}).records[0]!;
    expect(again.id).toBe(record!.id);
    expect(again.event).toEqual(record!.event);
    expect(again.bytes.toString()).toBe('{"deep":{"a":[1]}}');
  });
});
