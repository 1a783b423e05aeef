import { describe, expect, it } from "vitest";
import { type BytePath, pathFromText } from "../runtime/byte-path.ts";
import { PathPatterns } from "./glob.ts";

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
    const places = patterns.roots.get(pathFromText("/var/log"))!;
    expect([...patterns.roots.keys()]).toEqual(["/var/log"]);
    const below = patterns.below(places, pathFromText("web"));
    expect(below).toHaveLength(1);
    expect(patterns.below(below, pathFromText("other"))).toHaveLength(0);
    expect(patterns.below(below, pathFromText("app"))).toHaveLength(1);
  });

  it("walks everything below a brace or group that holds a slash", () => {
    const patterns = new PathPatterns(["/srv/{a/b,c}/*.log"], []);
    expect(judge(patterns, "/srv/a/b/x.log")).toBe("included");
    const places = patterns.roots.get(pathFromText("/srv"))!;
    expect(patterns.below(places, pathFromText("a")).length).toBeGreaterThan(0);
  });
});
