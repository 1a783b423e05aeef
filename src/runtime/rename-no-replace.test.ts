import { linkSync, mkdtempSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errnoOf } from "../errors.ts";
import { type LinkCalls, linkAndUnlink } from "./rename-no-replace.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-rename-"));
  writeFileSync(join(folder, "a"), "a");
});
afterEach(() => rmSync(folder, { recursive: true }));

const calls: LinkCalls = { link: async (from, to) => linkSync(from, to), unlink: async (name) => unlinkSync(name) };

function path(name: string): Buffer {
  return Buffer.from(join(folder, name));
}

describe("linkAndUnlink", () => {
  it("renames, and does not replace", async () => {
    await linkAndUnlink(path("a"), path("b"), calls);
    expect(readdirSync(folder)).toEqual(["b"]);
    writeFileSync(join(folder, "c"), "c");
    expect(await linkAndUnlink(path("c"), path("b"), calls).catch(errnoOf)).toBe("EEXIST");
    expect(readFileSync(join(folder, "b"), "utf8")).toBe("a");
    expect(readdirSync(folder).sort()).toEqual(["b", "c"]);
  });

  it("takes the new name back when the old one cannot go", async () => {
    const failing: LinkCalls = {
      ...calls,
      unlink: async (name) => {
        if (name.equals(path("a"))) throw Object.assign(new Error("not permitted"), { code: "EPERM" });
        unlinkSync(name);
      },
    };
    expect(await linkAndUnlink(path("a"), path("b"), failing).catch(errnoOf)).toBe("EPERM");
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  it("keeps the new name when somebody else removed the old one", async () => {
    const hasty: LinkCalls = {
      ...calls,
      link: async (from, to) => {
        linkSync(from, to);
        unlinkSync(from);
      },
    };
    await linkAndUnlink(path("a"), path("b"), hasty);
    expect(readdirSync(folder)).toEqual(["b"]);
  });
});
