import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BytePath, pathFromBytes, pathFromText } from "../runtime/byte-path.ts";
import { familyOf, siblingsOf } from "./family.ts";

function paths(...names: string[]): BytePath[] {
  return names.map(pathFromText);
}

function orderOf(base: string, names: readonly string[], modified: Record<string, number> = {}): string[] {
  return siblingsOf(pathFromText(base), paths(...names), (name) => modified[name]).map((sibling) => sibling.name);
}

describe("familyOf", () => {
  it.each([
    ["app.log.1", "app.log", "number"],
    ["app.log.12.gz", "app.log", "number"],
    ["app.log.0", "app.log", "number"],
    ["app.log.001", "app.log", "number"],
    ["app.log.old", "app.log", "number"],
    ["syslog.2.gz", "syslog", "number"],
    ["Xorg.0.log.old", "Xorg.0.log", "number"],
    ["app.1.log", "app.log", "number"],
    ["app.1.log.zst", "app.log", "number"],
    ["app.log-20260131", "app.log", "date"],
    ["app.log-20260131.xz", "app.log", "date"],
    ["app.log-20260131-153000.gz", "app.log", "date"],
    ["app.log-2026013115", "app.log", "date"],
    ["app.log-20260131153000", "app.log", "date"],
    ["app.log-2026-01-31", "app.log", "date"],
    ["app.log-1769817600.bz2", "app.log", "date"],
    ["app.log_2026_01_31", "app.log", "date"],
    ["app.log.2026-01-31", "app.log", "date"],
    ["app.log.2026-01-31_00-00-00", "app.log", "date"],
    ["app.log.2026-01-31-15", "app.log", "date"],
    ["app.log-202601", "app.log", "date"],
    ["app.log.2026-01", "app.log", "date"],
    ["app.log-31.01.2026", "app.log", "date"],
    ["app-20260131.log", "app.log", "date"],
    ["app-20260131.log.gz", "app.log", "date"],
    ["catalina.2026-01-31.log", "catalina.log", "date"],
    ["app.2026-01-31.3.log", "app.log", "date"],
    ["app-2026-01-31T10-00-00.000.log", "app.log", "date"],
    ["my-app-8080.log.1", "my-app-8080.log", "number"],
  ])("takes %s for a rotated %s, by %s", (name, base, kind) => {
    expect(familyOf(pathFromText(name))).toMatchObject({ base, rank: { kind } });
    expect(orderOf(base, [name])).toEqual([name]);
    expect(familyOf(pathFromText(`/var/log/${name}`)).base).toBe(`/var/log/${base}`);
  });

  it.each([
    "app.log",
    "app-8080.log",
    "app.log.31337",
    "app.log.old-backup",
    "app.log.bak",
    "app.log~",
    "app.log-1",
    "app.log-20261331",
    "app.log-20260230",
    "app.log-2026013125",
    "app.log-12345678",
    "app.log-20260131-extra",
    "app.log.swp",
    "app2.log",
    "app.logrotate",
    ".1",
    "1",
    "20260131",
    "-20260131.log",
    "app.log-",
    "app.log.",
    "",
  ])("takes %s for a file of its own", (name) => {
    const member = familyOf(pathFromText(name));
    expect(member.rank.kind).toBe("none");
    expect(member.base).toBe(name);
    if (name !== "app.log") expect(orderOf("app.log", [name])).toEqual([]);
  });

  it("tells the compression, and the base of a file that was compressed by hand", () => {
    expect(familyOf(pathFromText("app.log.gz"))).toEqual({
      base: "app.log",
      rank: { kind: "none" },
      compression: "gzip",
    });
    expect(familyOf(pathFromText("app.log.1.zst")).compression).toBe("zstd");
    expect(familyOf(pathFromText("app.log.1")).compression).toBeUndefined();
  });

  it("keeps names that are no UTF-8, and names with newlines", () => {
    expect(familyOf(pathFromBytes(Buffer.from("\xff\n.log.1", "latin1"))).base).toBe("\xff\n.log");
    expect(familyOf(pathFromBytes(Buffer.from("a\nb-20260131.log", "latin1"))).base).toBe("a\nb.log");
  });
});

describe("siblingsOf", () => {
  it("puts larger numbers first", () => {
    const names = ["app.log", "app.log.1", "app.log.10.gz", "app.log.2.gz", "app.log.3.zst"];
    expect(orderOf("app.log", names)).toEqual(["app.log.10.gz", "app.log.3.zst", "app.log.2.gz", "app.log.1"]);
  });

  it("puts earlier dates first, whatever follows the day", () => {
    expect(orderOf("app.log", ["app.log-20260201", "app.log-20251231.gz", "app.log-20260131.gz"])).toEqual([
      "app.log-20251231.gz",
      "app.log-20260131.gz",
      "app.log-20260201",
    ]);
    const numbered = ["app.2026-01-31.10.log", "app.2026-01-31.9.log", "app.2026-01-30.24.log", "app.2026-01-31.log"];
    expect(orderOf("app.log", numbered)).toEqual([
      "app.2026-01-30.24.log",
      "app.2026-01-31.log",
      "app.2026-01-31.9.log",
      "app.2026-01-31.10.log",
    ]);
    const timed = ["app.log-20260131-153000", "app.log-20260131-090000", "app.log-20260130-235959"];
    expect(orderOf("app.log", timed)).toEqual([timed[2], timed[1], timed[0]]);
    expect(orderOf("app.log", ["app.log-1769817601", "app.log-1769731200"])).toEqual([
      "app.log-1769731200",
      "app.log-1769817601",
    ]);
  });

  it("leaves out the base, other files, and the rotated files of other bases", () => {
    const names = [
      "app.log",
      "app.log.1",
      "app.log.old-backup",
      "app2.log.1",
      "myapp.log.1",
      "app.err.1",
      "app.log.d",
      "app.1.err",
    ];
    expect(orderOf("/var/log/app.log", names)).toEqual(["app.log.1"]);
  });

  it("does not take names with an extension for siblings of a base without one", () => {
    expect(orderOf("app", ["app.1", "app.log.1", "app-20260131.log", "app-20260131"]).sort()).toEqual([
      "app-20260131",
      "app.1",
    ]);
  });

  it("keeps a plain name and the archive that is being made of it side by side, the plain one first", () => {
    const siblings = siblingsOf(pathFromText("app.log"), paths("app.log.1.gz", "app.log.2.gz", "app.log.1"));
    expect(siblings.map((sibling) => [sibling.name, sibling.plainName])).toEqual([
      ["app.log.2.gz", "app.log.2"],
      ["app.log.1", "app.log.1"],
      ["app.log.1.gz", "app.log.1"],
    ]);
  });

  it("takes a file that was compressed by hand for the youngest", () => {
    expect(orderOf("app.log", ["app.log.gz", "app.log.1"])).toEqual(["app.log.1", "app.log.gz"]);
  });

  it("orders dated and numbered names by their time of modification", () => {
    const names = ["app.log.1", "app.log.2", "app.log-20260101", "app.log-20260102"];
    const modified = { "app.log.2": 1, "app.log.1": 2, "app.log-20260101": 3, "app.log-20260102": 4 };
    expect(orderOf("app.log", names, modified)).toEqual([
      "app.log.2",
      "app.log.1",
      "app.log-20260101",
      "app.log-20260102",
    ]);
    expect(orderOf("app.log", names)).toEqual(["app.log-20260101", "app.log-20260102", "app.log.2", "app.log.1"]);
  });

  it("finds every rotation of any base, in the order in which they were rotated", () => {
    const baseNames = fc.constantFrom(
      "app.log",
      "syslog",
      "a.b.log",
      "app-8080.log",
      "Xorg.0.log",
      "10.0.0.1",
      ".hidden.log",
    );
    const endings = fc.constantFrom("", ".gz", ".zst", ".xz", ".bz2");
    fc.assert(
      fc.property(baseNames, fc.uniqueArray(fc.integer({ min: 0, max: 9999 })), endings, (base, numbers, ending) => {
        const names = numbers.map((number) => `${base}.${number}${ending}`);
        const expected = numbers.sort((a, b) => b - a).map((number) => `${base}.${number}${ending}`);
        expect(orderOf(base, names)).toEqual(expected);
      }),
    );
    const days = fc.uniqueArray(
      fc.date({ min: new Date("1990-01-01"), max: new Date("2099-01-01"), noInvalidDate: true }),
      {
        selector: (date) => date.toISOString().slice(0, 10),
      },
    );
    fc.assert(
      fc.property(baseNames, days, endings, fc.constantFrom("-", "."), (base, dates, ending, separator) => {
        const nameOf = (date: Date) => `${base}${separator}${date.toISOString().slice(0, 10)}${ending}`;
        const expected = [...dates].sort((a, b) => a.getTime() - b.getTime()).map(nameOf);
        expect(orderOf(base, dates.map(nameOf))).toEqual(expected);
      }),
    );
  });
});
