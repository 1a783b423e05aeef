import { describe, expect, it } from "vitest";
import { type BytePath, pathFromText } from "../runtime/byte-path.ts";
import { PathPatterns, patternMistake } from "./glob.ts";

const judge = (patterns: PathPatterns, path: string) => patterns.judge(pathFromText(path)).kind;

describe("PathPatterns", () => {
  it("takes what an include matches, and nothing else", () => {
    const patterns = new PathPatterns(["/var/log/app/*.log"], []);
    expect(judge(patterns, "/var/log/app/a.log")).toBe("included");
    expect(judge(patterns, "/var/log/app/a.txt")).toBe("unmatched");
    expect(judge(patterns, "/var/log/app/deep/a.log")).toBe("unmatched");
  });

  it("matches any number of folders with **, none included", () => {
    const patterns = new PathPatterns(["/var/log/**/*.log"], []);
    expect(judge(patterns, "/var/log/a.log")).toBe("included");
    expect(judge(patterns, "/var/log/x/y/a.log")).toBe("included");
    expect(judge(new PathPatterns(["/var/log/**"], []), "/var/log/x/y")).toBe("included");
  });

  it("compares an exclude without a slash with the base name, one with a slash with the whole path", () => {
    const patterns = new PathPatterns(["/var/log/**"], ["*.gz", "/var/log/secret/**"]);
    expect(patterns.judge(pathFromText("/var/log/deep/a.gz"))).toEqual({ kind: "excluded", by: "*.gz" });
    expect(patterns.judge(pathFromText("/var/log/secret/a"))).toEqual({ kind: "excluded", by: "/var/log/secret/**" });
    expect(judge(patterns, "/var/log/other/a")).toBe("included");
  });

  it("starts relative patterns at the working folder", () => {
    const patterns = new PathPatterns(["logs/*.log", "./x.log"], [], "/srv/app");
    expect(judge(patterns, "/srv/app/logs/a.log")).toBe("included");
    expect(judge(patterns, "/srv/app/x.log")).toBe("included");
  });

  it("takes a literal path whose name looks like a pattern", () => {
    const patterns = new PathPatterns(["/data/a(1).log", "/data/[b].log"], []);
    expect(judge(patterns, "/data/a(1).log")).toBe("included");
    expect(judge(patterns, "/data/[b].log")).toBe("included");
  });

  it("matches names that are no UTF-8 with a star", () => {
    const patterns = new PathPatterns(["/data/*.log"], []);
    expect(patterns.judge("/data/\xff\xfe.log" as BytePath).kind).toBe("included");
  });

  it("matches one character, not one byte, with a question mark", () => {
    expect(judge(new PathPatterns(["/data/?.log"], []), "/data/é.log")).toBe("included");
  });

  it("walks from the longest folder without a wildcard and only where something can match", () => {
    const patterns = new PathPatterns(["/var/log/*/app/*.log", "/var/log/sys.log"], []);
    expect([...patterns.roots]).toEqual(["/var/log"]);
    const below = patterns.standingOf(pathFromText("/var/log/web"))!;
    expect(below).toBeDefined();
    expect(patterns.below(below, pathFromText("other"))).toBeUndefined();
    expect(patterns.below(below, pathFromText("app"))).toBeDefined();
  });

  it("walks only the folders that a brace with slashes stands for", () => {
    const patterns = new PathPatterns(["/srv/{a/b,c}/*.log"], []);
    expect(judge(patterns, "/srv/a/b/x.log")).toBe("included");
    expect([...patterns.roots]).toEqual(["/srv/a/b", "/srv/c"]);
    expect(new PathPatterns(["/srv/*/{a/b,c}/*.log"], []).standingOf(pathFromText("/srv/x/b"))).toBeUndefined();
  });

  it("begins in several folders where alternatives are absolute paths", () => {
    const patterns = new PathPatterns(["{/a,/b/c,d}/*.log"], [], "/home");
    for (const path of ["/a/x.log", "/b/c/x.log", "/home/d/x.log"]) expect(judge(patterns, path)).toBe("included");
    expect(patterns.judge(pathFromText("/a/x.log"))).toEqual({ kind: "included", by: "{/a,/b/c,d}/*.log" });
  });

  it("does not enter a folder of which everything is excluded, and still names the exclude", () => {
    const patterns = new PathPatterns(["/logs/**"], ["/logs/secret/**"]);
    expect(patterns.standingOf(pathFromText("/logs/secret"))).toBeUndefined();
    expect(patterns.judge(pathFromText("/logs/secret/deep/a"))).toEqual({ kind: "excluded", by: "/logs/secret/**" });
  });

  it("takes no part of the working folder's name for a wildcard", () => {
    const patterns = new PathPatterns(["*.log"], [], "/srv/[old]*{a,b}");
    expect(judge(patterns, "/srv/[old]*{a,b}/x.log")).toBe("included");
    expect(judge(patterns, "/srv/o*{a,b}/x.log")).toBe("unmatched");
  });

  it("compares any pattern with any name in a time that does not explode", () => {
    const patterns = new PathPatterns([`/a/${"*a".repeat(40)}*b`], []);
    expect(judge(patterns, `/a/${"a".repeat(200)}`)).toBe("unmatched");
  });

  it("gives equal folders the same standing, so that a walk can tell that it was there before", () => {
    const patterns = new PathPatterns(["/logs/**/*.log"], ["/logs/tmp/*"]);
    const once = patterns.standingOf(pathFromText("/logs/a"));
    expect(patterns.standingOf(pathFromText("/logs/b/c"))).toBe(once);
    expect(patterns.standingOf(pathFromText("/logs/tmp"))).not.toBe(once);
  });
});

describe("patternMistake", () => {
  it.each([
    ["/logs/a[b.log", "no closing ]"],
    ["/logs/a[b/c].log", "no closing ]"],
    ["/logs/[]", "no closing ]"],
    ["/logs/[!]", "no closing ]"],
    ["/logs/[[:alpha:]", "no closing ]"],
    ["/logs/{[,x}", "no closing ]"],
    ["/logs/{a,b.log", "no closing }"],
    ["/logs/[z-a].log", "z-a is empty"],
    ["/logs/[[:letter:]].log", "[:letter:] is no class"],
    ["/logs/[[.hyphen.]].log", "no single character"],
    ["/logs/a\\\\\\", "escapes nothing"],
    ["/logs/", "means a folder"],
    ["/logs/.", "means a folder"],
    ["{/a,/b/}", "means a folder"],
    ["/", "means a folder"],
    ["/logs/*/../a.log", "goes up"],
    ["/logs/@(a|b).log", "extended patterns"],
    ["/logs/!(a).log", "extended patterns"],
    ["/logs/(a|b).log", "extended patterns"],
    ["/logs/{1..99999}.log", "more than"],
    ["{,}", "no path at all"],
    ["/logs/a\0b", "NUL"],
  ])("refuses %s, which cannot mean what it says", (text, why) => {
    expect(patternMistake(text)).toContain(why);
  });

  it.each([
    "/a/[]x].log",
    "/a/[[:digit:]!].log",
    "/a/x].log",
    "/a/}.log",
    "/a/{q}.log",
    "/a/[{]",
    "/a/\\[b",
    "/a/f(1).log",
  ])("takes %s, which means something", (text) => {
    expect(patternMistake(text)).toBeUndefined();
  });
});
