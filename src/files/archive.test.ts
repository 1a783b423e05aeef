import { spawnSync } from "node:child_process";
import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { CompressionFormat } from "../codec/decompress.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { ArchiveContent, isWholeArchive } from "./archive.ts";
import { UNKNOWN_SIZE } from "./content.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-archive-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const PROGRAM: Record<CompressionFormat, string> = { gzip: "gzip", zstd: "zstd", xz: "xz", bzip2: "bzip2" };
const formats = (Object.keys(PROGRAM) as CompressionFormat[]).filter(
  (format) => spawnSync(PROGRAM[format], ["--version"], { input: "" }).error === undefined,
);

function compress(format: CompressionFormat, content: string | Buffer): Buffer {
  return spawnSync(PROGRAM[format], ["-c"], { input: content, maxBuffer: 2 ** 30 }).stdout;
}

async function open(bytes: Buffer, format: CompressionFormat = "gzip") {
  const path = join(folder, "archive");
  writeFileSync(path, bytes);
  const content = new ArchiveContent(await nodeFileSystem.open(pathFromText(path), "read"), format);
  return { path, content };
}

/** All that there is from `offset` on. */
async function readAll(content: ArchiveContent, offset = 0): Promise<string> {
  const parts: string[] = [];
  const into = Buffer.alloc(1000);
  for (let at = offset; ; ) {
    const count = await content.read(into, 0, into.length, at);
    if (count === 0) return parts.join("");
    parts.push(into.toString("latin1", 0, count));
    at += count;
  }
}

function lines(from: number, to: number): string {
  return Array.from({ length: to - from + 1 }, (_, index) => `${from + index}\n`).join("");
}

describe("ArchiveContent", () => {
  it("has a definite end behind the last good byte of a cut archive, and says what is wrong there", async () => {
    const archive = gzipSync(lines(1, 20_000));
    const { content } = await open(archive.subarray(0, archive.length / 2));
    expect((await content.stat()).size).toBe(UNKNOWN_SIZE);
    expect(content.archive).toBeUndefined();
    const text = await readAll(content);
    expect(lines(1, 20_000).startsWith(text)).toBe(true);
    expect(text.length).toBeGreaterThan(40_000);
    expect((await content.stat()).size).toBe(text.length);
    const cutAt = Math.floor(archive.length / 2);
    expect(content.archive).toMatchObject({
      bytes: cutAt,
      damage: { reason: "it ends too early, in the middle of a member", at: cutAt },
    });
    await content.close();
  });

  it("goes on at its end when the archive grows, without a byte twice", async () => {
    const archive = gzipSync(lines(1, 20_000));
    const cuts = [0, 5, 300, 20_000, 20_001, archive.length - 3, archive.length];
    const { path, content } = await open(Buffer.alloc(0));
    let text = "";
    for (let index = 1; index < cuts.length; index += 1) {
      appendFileSync(path, archive.subarray(cuts[index - 1]!, cuts[index]!));
      await content.stat();
      text += await readAll(content, text.length);
    }
    expect(text).toBe(lines(1, 20_000));
    expect(content.archive?.damage).toBeUndefined();
    appendFileSync(path, gzipSync("more\n"));
    expect((await content.stat()).size).toBe(UNKNOWN_SIZE);
    expect(await readAll(content, text.length)).toBe("more\n");
    await content.close();
  });

  it.each(formats)(
    "reads what is appended to a whole %s archive, and nothing of what is no archive",
    async (format) => {
      const { path, content } = await open(compress(format, lines(1, 1000)), format);
      const first = await readAll(content);
      expect(first).toBe(lines(1, 1000));
      appendFileSync(path, compress(format, lines(1001, 2000)));
      await content.stat();
      expect(await readAll(content, first.length)).toBe(lines(1001, 2000));
      appendFileSync(path, "rubbish that is no archive");
      await content.stat();
      expect(await readAll(content, lines(1, 2000).length)).toBe("");
      // xz takes it for a damaged stream, and bzip2 passes over it by itself.
      if (format === "gzip" || format === "zstd") expect(content.trailing).toBeDefined();
      expect(content.archive?.damage === undefined).toBe(format !== "xz");
      await content.close();
    },
  );

  it("reads an archive that was written in the place of another from its beginning", async () => {
    for (const isShorter of [true, false]) {
      const { path, content } = await open(gzipSync(lines(1, 3000)));
      const first = await readAll(content);
      const other = gzipSync(lines(5000, isShorter ? 5100 : 9999));
      truncateSync(path);
      writeFileSync(path, other);
      await content.stat();
      const second = await readAll(content, first.length);
      const expected = lines(5000, isShorter ? 5100 : 9999).slice(first.length);
      expect(second).toBe(expected);
      await content.close();
    }
  });

  it("looks again from the beginning where an archive was damaged and then mended in place", async () => {
    const archive = gzipSync(lines(1, 20_000));
    const damaged = Buffer.from(archive);
    // Written by a program that makes room first.
    damaged.fill(0, 20_000);
    const { path, content } = await open(damaged);
    const first = await readAll(content);
    expect(content.archive?.damage).toBeDefined();
    await new Promise((resolve) => setTimeout(resolve, 20));
    writeFileSync(path, archive);
    expect((await content.stat()).size).toBe(UNKNOWN_SIZE);
    const all = lines(1, 20_000);
    const wrongAt = [...first].findIndex((char, index) => char !== all[index]);
    const good = wrongAt < 0 ? first.length : wrongAt;
    expect(await readAll(content, good)).toBe(all.slice(good));
    expect(content.archive?.damage).toBeUndefined();
    await content.close();
  });
});

describe("isWholeArchive", () => {
  it.each(formats)("says of %s whether all of it is there and right", async (format) => {
    const archive = compress(format, lines(1, 5000));
    const path = join(folder, "archive");
    const isWhole = async (bytes: Buffer) => {
      writeFileSync(path, bytes);
      const handle = await nodeFileSystem.open(pathFromText(path), "read");
      try {
        return await isWholeArchive(handle, format);
      } finally {
        await handle.close();
      }
    };
    expect(await isWhole(archive)).toBe(true);
    expect(await isWhole(Buffer.concat([archive, archive]))).toBe(true);
    expect(await isWhole(archive.subarray(0, -1))).toBe(false);
    expect(await isWhole(Buffer.alloc(0))).toBe(false);
    expect(await isWhole(Buffer.from("text"))).toBe(false);
  });
});
