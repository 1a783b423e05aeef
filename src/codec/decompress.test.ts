import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { TailraceError } from "../errors.ts";
import {
  type CompressionFormat,
  decompress,
  formatOfName,
  isComplete,
  type ReadAt,
  withoutFormatEnding,
} from "./decompress.ts";

const PROGRAM: Record<CompressionFormat, string> = { gzip: "gzip", zstd: "zstd", xz: "xz", bzip2: "bzip2" };
const formats = (Object.keys(PROGRAM) as CompressionFormat[]).filter(
  (format) => spawnSync(PROGRAM[format], ["--version"], { input: "" }).error === undefined,
);

function compress(format: CompressionFormat, content: Buffer, ...args: string[]): Buffer {
  return execFileSync(PROGRAM[format], ["-c", ...args], {
    input: content,
    maxBuffer: 2 ** 30,
    stdio: ["pipe", "pipe", "ignore"],
  });
}

/** A file in memory that gives at most `most` bytes a read. */
function readerOf(archive: Buffer, most = Number.POSITIVE_INFINITY): ReadAt {
  return async (into, length, offset) =>
    archive.copy(into, 0, offset, Math.min(archive.length, offset + Math.min(length, most)));
}

async function contentOf(format: CompressionFormat, read: ReadAt, from = 0): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const bytes of decompress(format, read, { from })) parts.push(bytes);
  return Buffer.concat(parts);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (error) {
    return error instanceof TailraceError ? error.code : String(error);
  }
}

/** Lines that compress as logs do, in `bytes` bytes; the same each time. */
function logOf(bytes: number, seed = 1): Buffer {
  const lines: string[] = [];
  let state = seed;
  for (let size = 0; size < bytes; size += lines.at(-1)!.length) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    lines.push(
      `2024-01-01T00:00:00Z request=${state.toString(36)} status=${200 + (state % 5)} took=${state % 977}ms é\n`,
    );
  }
  return Buffer.from(lines.join("")).subarray(0, bytes);
}

const oldPath = process.env["PATH"];
afterEach(() => {
  process.env["PATH"] = oldPath;
});

describe("formatOfName", () => {
  it("tells the format by the ending, which a name cannot be all of", () => {
    expect(["a.gz", "a.log.1.zst", "a.xz", "a.bz2"].map(formatOfName)).toEqual(["gzip", "zstd", "xz", "bzip2"]);
    expect(["a.log", ".gz", "agz", "a.gz.1", "a.GZ"].map(formatOfName)).toEqual(Array(5).fill(undefined));
    expect(["a.log.1.gz", "a.log", ".gz"].map(withoutFormatEnding)).toEqual(["a.log.1", "a.log", ".gz"]);
  });
});

describe.each(formats)("decompress %s", (format) => {
  it("gives the content that was compressed, in reads of any size", async () => {
    for (const size of [0, 1, 17, 4096, 70_000, 300_000]) {
      const content = logOf(size);
      const archive = compress(format, content);
      expect((await contentOf(format, readerOf(archive))).equals(content)).toBe(true);
      expect((await contentOf(format, readerOf(archive, 999))).equals(content)).toBe(true);
      expect(await isComplete(format, readerOf(archive), archive.length)).toBe(true);
    }
  });

  it("reads short reads of single bytes", async () => {
    const content = logOf(3000);
    expect((await contentOf(format, readerOf(compress(format, content), 1))).equals(content)).toBe(true);
  });

  it("takes archives that were appended to each other as one content", async () => {
    const parts = [logOf(100_000), Buffer.alloc(0), logOf(5), logOf(70_000, 9)];
    const archive = Buffer.concat(parts.map((part) => compress(format, part)));
    expect((await contentOf(format, readerOf(archive, 5000))).equals(Buffer.concat(parts))).toBe(true);
  });

  it("starts at any content offset, and gives nothing from the end on", async () => {
    const content = logOf(200_000);
    const archive = compress(format, content);
    for (const from of [1, 65_536, 131_072, 199_999, 200_000, 300_000]) {
      expect((await contentOf(format, readerOf(archive), from)).equals(content.subarray(from))).toBe(true);
    }
  });

  it("refuses an archive that is cut short anywhere, which is then not complete", async () => {
    const archive = compress(format, logOf(3000));
    const step = format === "gzip" || format === "zstd" ? 7 : Math.ceil(archive.length / 5);
    for (let length = 0; length < archive.length; length += step) {
      const cut = archive.subarray(0, length);
      expect(`${length}: ${await codeOf(contentOf(format, readerOf(cut)))}`).toBe(`${length}: TR_ARCHIVE_DAMAGED`);
      expect(await isComplete(format, readerOf(archive), length)).toBe(false);
    }
  });

  it("refuses what is no archive", async () => {
    await expect(contentOf(format, readerOf(logOf(1000)))).rejects.toThrow(`the ${format} archive is damaged`);
  });

  it("tells a damaged checksum", async () => {
    const archive = compress(format, logOf(50_000));
    // gzip: CRC before the size in the last 8 bytes; zstd: the last 4; xz and bzip2: in the last 40.
    const at = archive.length - { gzip: 8, zstd: 4, xz: 40, bzip2: 8 }[format];
    archive[at] = archive[at]! ^ 0x10;
    expect(await codeOf(contentOf(format, readerOf(archive)))).toBe("TR_ARCHIVE_DAMAGED");
    expect(await isComplete(format, readerOf(archive), archive.length)).toBe(false);
  });

  it("hands on an error of the reading as it is", async () => {
    const archive = compress(format, logOf(800_000), "-1");
    const failing: ReadAt = async (into, length, offset) => {
      if (offset > 20_000) throw Object.assign(new Error("no disk"), { code: "EIO" });
      return readerOf(archive)(into, length, offset);
    };
    await expect(contentOf(format, failing)).rejects.toThrow("no disk");
    await expect(isComplete(format, failing, archive.length)).rejects.toThrow("no disk");
  });

  it("ends with the signal's reason when aborted, and reads no more", async () => {
    const archive = compress(format, logOf(800_000), "-1");
    const controller = new AbortController();
    let isEnded = false;
    const read: ReadAt = async (into, length, offset) => {
      if (isEnded) throw new Error("read after the end");
      return readerOf(archive, 1000)(into, length, offset);
    };
    const content = decompress(format, read, { signal: controller.signal });
    await content.next();
    controller.abort(new Error("enough"));
    await expect(content.next().then(() => content.next())).rejects.toThrow("enough");
    isEnded = true;
    expect((await content.next()).done).toBe(true);
  });

  it("reads no further ahead than the decompressor and its pipes hold, while nobody takes what comes out", async () => {
    // Not compressible, so that the archive is as long.
    const archive = compress(format, randomBytes(4 * 1024 * 1024), "-1");
    let read = 0;
    const reading = readerOf(archive);
    const bytes = decompress(format, async (...given) => {
      const count = await reading(...given);
      read += count;
      return count;
    });
    await bytes.next();
    for (let before = -1; before !== read; ) {
      before = read;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(read).toBeLessThan(3 * 1024 * 1024);
    await bytes.return(undefined);
  });

  it("has no read under way once it was left", async () => {
    const archive = compress(format, logOf(800_000), "-1");
    let underWay = 0;
    const read: ReadAt = async (into, length, offset) => {
      underWay += 1;
      await new Promise((resolve) => setImmediate(resolve));
      underWay -= 1;
      return readerOf(archive)(into, length, offset);
    };
    for await (const bytes of decompress(format, read)) {
      expect(bytes.length).toBeGreaterThan(0);
      break;
    }
    expect(underWay).toBe(0);
  });
});

describe("decompress gzip", () => {
  it("skips zeros behind the last member, as gzip does, and refuses other bytes there", async () => {
    const archive = gzipSync("abc\n");
    const padded = Buffer.concat([archive, Buffer.alloc(300_000)]);
    expect((await contentOf("gzip", readerOf(padded))).toString()).toBe("abc\n");
    const soiled = Buffer.concat([archive, Buffer.from("rubbish")]);
    expect(await codeOf(contentOf("gzip", readerOf(soiled)))).toBe("TR_ARCHIVE_DAMAGED");
  });

  it("refuses a second member that has only begun", async () => {
    const archive = Buffer.concat([gzipSync(logOf(1000)), gzipSync(logOf(1000)).subarray(0, 3)]);
    expect(await isComplete("gzip", readerOf(archive), archive.length)).toBe(false);
  });
});

describe.runIf(formats.includes("zstd"))("decompress zstd", () => {
  it("decodes every level, with and without checksum and content size", async () => {
    const content = logOf(400_000);
    for (const args of [
      ["-1"],
      ["-19"],
      ["--fast=5"],
      ["--no-check"],
      ["--ultra", "-22"],
      ["--long=27"],
      ["--no-content-size"],
    ]) {
      const archive = compress("zstd", content, ...args);
      expect((await contentOf("zstd", readerOf(archive))).equals(content), args.join(" ")).toBe(true);
    }
  });

  it("decodes stored and run-length blocks", async () => {
    const noise = Buffer.from(
      Array.from({ length: 200_000 }, (_, index) => Math.imul(index ^ 0x5bd1, 2654435761) >>> 24),
    );
    const content = Buffer.concat([noise, Buffer.alloc(300_000, "a"), noise]);
    expect((await contentOf("zstd", readerOf(compress("zstd", content)))).equals(content)).toBe(true);
  });

  it("passes over skippable frames, and tells one that is cut short", async () => {
    const skippable = Buffer.concat([Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]), Buffer.from("12345")]);
    const archive = Buffer.concat([skippable, compress("zstd", Buffer.from("abc\n")), skippable]);
    expect((await contentOf("zstd", readerOf(archive))).toString()).toBe("abc\n");
    expect(await isComplete("zstd", readerOf(archive), archive.length - 1)).toBe(false);
  });

  it("refuses a window that would take too much memory, as unsupported", async () => {
    // Magic, a descriptor without a content size, a window of 2^41 bytes.
    const archive = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0xf8, 1, 0, 0, 0, 0]);
    expect(await codeOf(contentOf("zstd", readerOf(archive)))).toBe("TR_ARCHIVE_UNSUPPORTED");
  });

  it("never takes changed bytes for the content", async () => {
    const content = logOf(2000);
    const archive = compress("zstd", content);
    await fc.assert(
      fc.asyncProperty(fc.nat(archive.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const changed = Buffer.from(archive);
        changed[at] = changed[at]! ^ change;
        const result = await contentOf("zstd", readerOf(changed)).catch((error: TailraceError) => error.code);
        // A flipped bit in a field that changes nothing leaves the content as it was.
        if (Buffer.isBuffer(result)) expect(result.equals(content)).toBe(true);
        else expect(result).toMatch(/^TR_ARCHIVE_/);
      }),
      { numRuns: 200 },
    );
  });
});

describe("decompress with a program that is missing", () => {
  it.each(["xz", "bzip2"] as const)("names %s and its package", async (format) => {
    process.env["PATH"] = "/nonexistent";
    const work = contentOf(format, readerOf(Buffer.from("anything")));
    await expect(work).rejects.toThrow(`\`${PROGRAM[format]}\``);
    expect(await codeOf(isComplete(format, readerOf(Buffer.from("anything")), 8))).toBe("TR_ARCHIVE_UNSUPPORTED");
  });
});
