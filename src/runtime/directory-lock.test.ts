import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isLocked, lockDirectory } from "./directory-lock.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-lock-"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A process of its own that locks `folder` by flock(2) and writes its pid, as an agent does. */
async function holder() {
  const script = `
    const koffi = require(process.argv[1]);
    const fs = require("node:fs");
    const flock = koffi.load(null).func("int flock(int descriptor, int operation)");
    const descriptor = fs.openSync(process.argv[2], "r");
    fs.writeFileSync(process.argv[2] + "/pid", String(process.pid));
    process.stdout.write(String(flock(descriptor, 2 | 4)));
    setInterval(() => {}, 1000);
  `;
  const koffi = createRequire(import.meta.url).resolve("koffi");
  const child = spawn(process.execPath, ["-e", script, koffi, folder], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const answer = await new Promise<string>((resolve) => child.stdout.once("data", (data) => resolve(String(data))));
  expect(answer).toBe("0");
  return {
    pid: child.pid!,
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

describe("lockDirectory", () => {
  it("holds a directory against every other lock until it is released", async () => {
    expect(await isLocked(folder)).toBe(false);
    const lock = await lockDirectory(folder);
    expect(await isLocked(folder)).toBe(true);
    await expect(lockDirectory(folder)).rejects.toMatchObject({ code: "TR_STATE_IN_USE" });
    expect(await isLocked(folder)).toBe(true);
    lock.release();
    lock.release();
    expect(await isLocked(folder)).toBe(false);
    (await lockDirectory(folder)).release();
  });

  it("names the process that holds it, and is free once that one was killed", async () => {
    const other = await holder();
    try {
      expect(await isLocked(folder)).toBe(true);
      await expect(lockDirectory(folder)).rejects.toMatchObject({
        code: "TR_STATE_IN_USE",
        message: expect.stringContaining(`pid ${other.pid}`),
      });
    } finally {
      await other.kill();
    }
    expect(await isLocked(folder)).toBe(false);
    // The pid file that it left says nothing any more.
    const lock = await lockDirectory(folder);
    expect(readFileSync(join(folder, "pid"), "utf8")).toBe(`${process.pid}\n`);
    expect(statSync(join(folder, "pid")).mode & 0o777).toBe(0o600);
    lock.release();
    expect(existsSync(join(folder, "pid"))).toBe(false);
  });

  it("gets through while others look whether it is locked", async () => {
    const looks = Array.from({ length: 50 }, () => isLocked(folder));
    const lock = await lockDirectory(folder);
    await Promise.all(looks);
    expect(await isLocked(folder)).toBe(true);
    lock.release();
  });

  it("refuses what cannot be opened, and says that nothing locks what is not there", async () => {
    await expect(lockDirectory(join(folder, "nowhere"))).rejects.toMatchObject({ code: "TR_STATE_UNUSABLE" });
    expect(await isLocked(join(folder, "nowhere"))).toBe(false);
    writeFileSync(join(folder, "file"), "");
    expect(await isLocked(join(folder, "file", "below"))).toBe(false);
  });
});
