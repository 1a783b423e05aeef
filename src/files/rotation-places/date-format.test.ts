import { describe, expect, it } from "vitest";
import { dateFormatParser } from "./date-format.ts";

describe("dateFormatParser", () => {
  it.each([
    ["-%Y%m%d", "-20260131", [20260131]],
    ["-%Y%m%d%H", "-2026013115", [20260131, 15]],
    [".%Y-%m-%d_%H:%M:%S", ".2026-01-31_15:30:59", [20260131, 15, 30, 59]],
    ["%d.%m.%Y", "31.01.2026", [20260131]],
    ["@%s", "@1769817600", [20260131, 0]],
    ["-%Y%m%d-%s", "-20260131-1769817661", [20260131, 61]],
    ["-%Y%m", "-202601", [20260101]],
    ["-%Y", "-2026", [20260101]],
    ["-%Y%m%d-week%V", "-20260131-week05", [20260131]],
    ["%x(%Y).%m+%d[", "%x(2026).01+31[", [20260131]],
  ])("reads %s out of %s", (format, tag, key) => {
    expect(dateFormatParser(format)(tag)).toEqual({ kind: "date", key });
  });

  it.each([
    ["-%d", "-31"],
    ["-%H%M", "-1530"],
    ["-%Y-W%V", "-2026-W53"],
    ["-%Y-%H", "-2026-15"],
    [".rotated", ".rotated"],
  ])("leaves the order to the time of modification where %s does not tell it", (format, tag) => {
    expect(dateFormatParser(format)(tag)).toEqual({ kind: "modified" });
  });

  it.each([
    ["-%Y%m%d", "-20260231"],
    ["-%Y%m%d", "-20260131x"],
    ["-%Y%m%d", "x-20260131"],
    ["-%Y%m%d", ".20260131"],
    ["-%Y%m%d", ""],
    ["-%H", "-24"],
    ["-%m%d", "-1301"],
    ["-%Y-%V", "-2026-54"],
    ["-%Y%m%d.%V", "-20260131x05"],
  ])("takes nothing for %s but what it makes: not %s", (format, tag) => {
    expect(dateFormatParser(format)(tag)).toBeUndefined();
  });

  it("does not order by the hour what lacks the day", () => {
    expect(dateFormatParser("-%Y%m-%H")("-202601-15")).toEqual({ kind: "date", key: [20260101] });
  });
});
