import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { pathFromText, pathToText } from "../runtime/byte-path.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { isStrftime, strftime } from "./strftime.ts";
import { PathTemplate } from "./template.ts";

const [record] = linesBatch("app", "k", 0, ["a line"]).records;
const pathOf = (template: string, event: { [field: string]: unknown }) =>
  new PathTemplate(template).namesFor(record!.with(event)).map(pathToText).join("/");

describe("PathTemplate", () => {
  it("is one file where there is no placeholder", () => {
    const template = new PathTemplate("/data/out.ndjson");
    expect([template.fixed, template.root]).toEqual([pathFromText("/data/out.ndjson"), pathFromText("/data")]);
    expect(new PathTemplate("out.ndjson").fixed).toBe(pathFromText(`${process.cwd()}/out.ndjson`));
  });

  it("has its root in front of the first placeholder", () => {
    expect(new PathTemplate("/data/logs-{host}/x.log").root).toBe(pathFromText("/data"));
    expect(new PathTemplate("{host}.log").root).toBe(pathFromText(process.cwd()));
    expect(new PathTemplate("/{host}").root).toBe(pathFromText("/"));
  });

  it("fills in fields, also dotted ones, and time in UTC", () => {
    const event = { host: "web-1", "a.b": "whole", c: { d: 7 }, timestamp: "2026-11-21T23:59:59.5+02:00" };
    expect(pathOf("/data/{host}/{a.b}-{c.d}-{time:%Y%m%dT%H%M%S}.log", event)).toBe(
      "web-1/whole-7-20261121T215959.log",
    );
  });

  it("takes the time of reading where the event has none", () => {
    expect(pathOf("/data/{time:%F}", { timestamp: "yesterday" })).toBe("1970-01-01");
    expect(pathOf("/data/{time:%F}", {})).toBe("1970-01-01");
  });

  it.each([
    [undefined, "_"],
    [null, "_"],
    ["", "_"],
    [{}, "_"],
    [".", "_"],
    ["..", "__"],
    ["a/b\\c d\0ä😀", "a_b_c_d___"],
    [true, "true"],
  ])("writes a value %j as %j", (value, name) => {
    expect(pathOf("/data/{x}", { x: value })).toBe(name);
  });

  it("never climbs nor adds a folder, whatever the values are", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.constantFrom("..", ".", "/", "../", ""), (one, other) => {
        const names = pathOf("/data/{x}{y}/{y}{x}/{x}", { x: one, y: other }).split("/");
        expect(names).toHaveLength(3);
        for (const name of names) expect(name).toMatch(/^(?!\.{1,2}$)[A-Za-z0-9._-]+$/);
      }),
    );
  });

  it.each([
    "",
    "/data/",
    "/data/{host}/",
    "/data/{host",
    "/data/host}",
    "/data/{}",
    "/data/{a{b}}",
    "/data/{time:}",
    "/data/{time:plain}",
    "/data/{time:%Q}",
    "/data/{host}/../x",
    "/data/{host}//x",
  ])("refuses %j", (text) => {
    expect(() => new PathTemplate(text)).toThrow();
  });

  it("knows whether untouched lines all go to one place", () => {
    expect(new PathTemplate("/data/{source}-{time:%F}").isSameForLines).toBe(true);
    expect(new PathTemplate("/data/{message}").isSameForLines).toBe(false);
  });
});

describe("strftime", () => {
  it("writes each conversion in UTC", () => {
    const ms = Date.UTC(2026, 10, 1, 3, 4, 5, 6);
    expect(strftime("%Y %y %m %b %d %j %a %u %H %M %S %L %s %F %T %%", ms)).toBe(
      `2026 26 11 Nov 01 305 Sun 7 03 04 05 006 ${ms / 1000 - 0.006} 2026-11-01 03:04:05 %`,
    );
    expect(isStrftime("%Y%")).toBe(false);
    expect(isStrftime("%constructor")).toBe(false);
  });
});
