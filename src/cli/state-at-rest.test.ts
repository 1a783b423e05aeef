import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { SMALL, sampleStages } from "../../test/config/sample-stages.ts";
import { type Change, openLmdbStore, prepareStateDirectory } from "../checkpoint/index.ts";
import type { CliIo } from "./io.ts";
import { main } from "./main.ts";

let folder = "";
let stateDir = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-cli-state-"));
  stateDir = join(folder, "state");
  writeFileSync(join(folder, "tailrace.toml"), SMALL);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err]: [string[], string[]] = [[], []];
  const io: CliIo = {
    stdout: { write: (text) => out.push(text) },
    stderr: { write: (text) => err.push(text) },
    env: {},
    cwd: folder,
    exitCode: 0,
    stages: sampleStages,
  };
  const code = await main([...args, "--state-dir", stateDir], io);
  return { code, out: out.join(""), err: err.join("") };
}

const fileRow = (lastSize: number): Change => ({
  table: "file",
  source: "app",
  file: "k1",
  value: {
    generation: 0,
    fileSystem: "disk",
    inode: "7",
    birthNs: "0",
    fingerprint: { length: 0, hash: "" },
    guard: { length: 0, hash: "" },
    guardEnd: 0,
    names: ["/logs/a.log"],
    lastSize,
    lastSeenMs: 1,
    boundaries: [],
  },
});

const positionRow = (sink: string, prefix: number): Change => ({
  table: "position",
  sink,
  source: "app",
  file: "k1",
  value: { prefix, ranges: [] },
});

describe("a state directory that is not there", () => {
  it.each([
    ["checkpoints", "reset", "/logs/a.log"],
    ["checkpoints", "forget", "out"],
  ])("%s %s says so in one sentence, exit 1, and makes nothing", async (...args) => {
    const { code, out, err } = await run(...args);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toBe(`error: ${stateDir} does not exist: no agent has run with it yet\n`);
    expect(existsSync(stateDir)).toBe(false);
  });
});

describe("a state directory that is a file", () => {
  it.each([
    ["checkpoints", "list"],
    ["checkpoints", "export"],
    ["checkpoints", "reset", "/logs/a.log"],
    ["why", "/logs/a.log"],
    ["audit"],
    ["dlq", "list"],
  ])("is refused by %s %s with the words of `run`, exit 1", async (...args) => {
    writeFileSync(stateDir, "");
    const words = `${stateDir} is no directory, so it cannot be the state directory; name another one`;
    await expect(prepareStateDirectory(stateDir)).rejects.toThrow(words);
    expect(await run(...args)).toEqual({ code: 1, out: "", err: `error: ${words}\n` });
    const below = join(stateDir, "below");
    await expect(prepareStateDirectory(below)).rejects.toThrow(`${below} is no directory`);
  });
});

describe("checkpoints list", () => {
  it("shows no position above the size: what was read since the last look was there", async () => {
    await prepareStateDirectory(stateDir);
    const store = await openLmdbStore(stateDir);
    await store.commit([fileRow(114), positionRow("out", 120), positionRow("slow", 60)]);
    await store.close();
    const { code, out, err } = await run("checkpoints", "list", "--json");
    expect([code, err]).toEqual([0, ""]);
    expect(JSON.parse(out)).toMatchObject([
      { sink: "out", position: 120, size: 120 },
      { sink: "slow", position: 60, size: 120 },
    ]);
  });
});
