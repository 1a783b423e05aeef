import { describe, expect, it } from "vitest";
import { ProcessNames } from "./process-names.ts";

describe("ProcessNames", () => {
  it("knows the newest name and cgroup of a process, and none of one that it was not told of", () => {
    const names = new ProcessNames();
    names.tellProcess(7, "old", 1n);
    names.tellCgroup(1n, "/a");
    names.tellCgroup(2n, "/b");
    expect(names.of(7)).toEqual({ comm: "old", cgroup: "/a" });
    names.tellProcess(7, "new", 2n);
    expect(names.of(7)).toEqual({ comm: "new", cgroup: "/b" });
    expect(names.of(8)).toEqual({ comm: "", cgroup: "" });
  });

  it("forgets who is gone at the second time, so that the last slot still has its name", () => {
    const names = new ProcessNames();
    names.tellProcess(7, "worker", 1n);
    names.tellGone(7);
    expect(names.forgetGone()).toEqual([]);
    expect(names.of(7).comm).toBe("worker");
    expect(names.forgetGone()).toEqual([7]);
    expect(names.of(7).comm).toBe("");
    expect(names.size).toBe(0);
  });

  it("forgets the oldest where too many are known", () => {
    const names = new ProcessNames();
    for (let process = 1; process <= 131_080; process += 1) names.tellProcess(process, "p", BigInt(process));
    for (let cgroup = 1n; cgroup <= 16_390n; cgroup += 1n) names.tellCgroup(cgroup, `/${cgroup}`);
    expect(names.size).toBe(131_072);
    expect(names.of(8).comm).toBe("");
    expect(names.of(9)).toEqual({ comm: "p", cgroup: "/9" });
    expect(names.of(100).cgroup).toBe("/100");
    names.tellCgroup(1n, "/1");
    names.tellProcess(1, "again", 1n);
    expect(names.of(1)).toEqual({ comm: "again", cgroup: "/1" });
  });
});
