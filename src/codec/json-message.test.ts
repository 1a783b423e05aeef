import { describe, expect, it } from "vitest";
import { JsonMessage } from "./json-message.ts";

const fieldsOf = (body: string | Buffer) => new JsonMessage(7, Buffer.from(body), { subject: "s", sequence: 7 }).fields;

describe("JsonMessage", () => {
  it("makes an object's keys the fields; on a clash they win over what the queue adds", () => {
    expect(fieldsOf('{"message":"m","sequence":1}')).toEqual({ subject: "s", sequence: 1, message: "m" });
    expect(fieldsOf('  {"a":1}')).toEqual({ subject: "s", sequence: 7, a: 1 });
  });

  it.each(["plain", "[1]", "3", "null", '{"cut":', "", '"text"'])(
    "makes a body that is no object the message: %s",
    (body) => {
      expect(fieldsOf(body)).toEqual({ subject: "s", sequence: 7, message: body });
    },
  );

  it("takes __proto__ for a key like any other", () => {
    const fields = fieldsOf('{"__proto__":{"polluted":true}}');
    expect(Object.getPrototypeOf(fields)).toBe(Object.prototype);
    expect(Object.keys(fields)).toContain("__proto__");
  });
});
