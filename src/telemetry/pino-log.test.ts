import { describe, expect, it } from "vitest";
import type { LogFormat, LogLevel } from "./pino-log.ts";
import { createLogger } from "./pino-log.ts";

function logTo(lines: string[], format: LogFormat = "json", level: LogLevel = "info", hasColours = false) {
  return createLogger({ level, format, hasColours, stream: { write: (line) => lines.push(line) } });
}

describe("createLogger", () => {
  it("writes one JSON object a line, with the level as a word and the time in ISO 8601", () => {
    const lines: string[] = [];
    logTo(lines).warn({ component: "out", dropped: 3 }, "Dropped 3 records in last second");
    expect(lines).toHaveLength(1);
    expect(lines[0]!.endsWith("\n")).toBe(true);
    const line = JSON.parse(lines[0]!) as { time: string };
    expect(line).toEqual({
      level: "warn",
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      component: "out",
      dropped: 3,
      msg: "Dropped 3 records in last second",
    });
  });

  it("leaves out what is below its level", () => {
    const lines: string[] = [];
    logTo(lines).debug({}, "no");
    logTo(lines, "json", "silent").error({}, "no");
    logTo(lines, "json", "debug").debug({}, "yes");
    expect(lines).toHaveLength(1);
  });

  it("hides secrets in fields, children, errors and messages", () => {
    const lines: string[] = [];
    const log = logTo(lines).child({ url: "http://me:hunter2@h/", token: "hunter2" });
    const error = new Error("cannot reach http://me:hunter2@h/", { cause: new Error("nats://hunter2@h") });
    log.error({ error, options: { password: "hunter2" } }, "at http://me:hunter2@h/");
    expect(lines.join("")).not.toContain("hunter2");
    expect(JSON.parse(lines[0]!)).toMatchObject({ token: "***", url: "http://***@h/", options: { password: "***" } });
  });

  it("writes for people with pretty, with colours only when told", () => {
    const plain: string[] = [];
    logTo(plain, "pretty").info({ component: "app", offset: 5, tries: 3 }, "hello");
    expect(plain.join("")).toMatch(/^\[\d\d:\d\d:\d\d\.\d{3}\] INFO: app: hello \{"tries":3\}\n$/);
    const coloured: string[] = [];
    logTo(coloured, "pretty", "info", true).info({}, "hello");
    expect(coloured.join("")).toContain("\u001b[");
  });
});
