import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { constants, gzipSync, inflateRawSync } from "node:zlib";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { TailraceError } from "../errors.ts";
import {
  type ArchiveEnd,
  archiveEnd,
  type CompressionFormat,
  decompress,
  formatOfName,
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

/** What comes before the first end, and that end. */
async function readOf(format: CompressionFormat, read: ReadAt): Promise<{ content: Buffer; end: ArchiveEnd }> {
  const parts: Buffer[] = [];
  for await (const piece of decompress(format, read)) {
    if (!Buffer.isBuffer(piece)) return { content: Buffer.concat(parts), end: piece };
    expect(piece.length).toBeGreaterThan(0);
    expect(piece.length).toBeLessThanOrEqual(128 * 1024);
    parts.push(piece);
  }
  throw new Error("it ended without saying how");
}

async function contentOf(format: CompressionFormat, read: ReadAt): Promise<Buffer> {
  return (await readOf(format, read)).content;
}

const kindOf = async (format: CompressionFormat, read: ReadAt) => (await readOf(format, read)).end.kind;

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
    expect(["a.log", ".gz", "agz", "a.gz.1"].map(formatOfName)).toEqual(Array(4).fill(undefined));
    expect(["a.log.1.gz", "a.log", ".gz"].map(withoutFormatEnding)).toEqual(["a.log.1", "a.log", ".gz"]);
  });

  it("takes an ending in any case, as file systems that know none hand them on", () => {
    expect(["A.GZ", "a.Zst", "A.XZ", "A.LOG.Bz2"].map(formatOfName)).toEqual(["gzip", "zstd", "xz", "bzip2"]);
    expect(["A.LOG.1.GZ", "A.ZST"].map(withoutFormatEnding)).toEqual(["A.LOG.1", "A"]);
  });
});

describe.each(formats)("decompress %s", (format) => {
  it("gives the content that was compressed, in reads of any size", async () => {
    for (const size of [0, 1, 17, 4096, 70_000, 300_000]) {
      const content = logOf(size);
      const archive = compress(format, content);
      expect((await contentOf(format, readerOf(archive))).equals(content)).toBe(true);
      expect((await contentOf(format, readerOf(archive, 999))).equals(content)).toBe(true);
      expect((await archiveEnd(format, readerOf(archive), archive.length)).kind).toBe("whole");
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

  it("tells that an archive is cut short, wherever that is, and that an empty one is empty", async () => {
    const archive = compress(format, logOf(3000));
    const step = format === "gzip" || format === "zstd" ? 7 : Math.ceil(archive.length / 5);
    expect(await kindOf(format, readerOf(Buffer.alloc(0)))).toBe("empty");
    for (let length = 1; length < archive.length; length += step) {
      expect(`${length}: ${await kindOf(format, readerOf(archive.subarray(0, length)))}`).toBe(`${length}: cut`);
      expect((await archiveEnd(format, readerOf(archive), length)).kind).toBe("cut");
    }
  });

  it("says of what is no archive that it is none", async () => {
    const { content, end } = await readOf(format, readerOf(logOf(1000)));
    expect(content.length).toBe(0);
    expect(end).toMatchObject({ kind: "damaged", at: 0 });
    expect(end.reason).toContain(`it is no ${format} archive: it does not begin as one`);
  });

  it("gives all that can be decoded of an archive that is cut, in the middle of a member too", async () => {
    const content = logOf(3_000_000);
    // Blocks of bzip2 and xz hold more than the others'; of a block that is cut nothing can be told.
    const archive = compress(format, content, "-1");
    for (const share of [0.3, 0.9, 0.9999]) {
      const length = Math.floor(archive.length * share);
      const { content: got, end } = await readOf(format, readerOf(archive.subarray(0, length), 10_000));
      expect(end.kind).toBe("cut");
      expect(got.equals(content.subarray(0, got.length))).toBe(true);
      const asProgram = spawnSync(PROGRAM[format], ["-dc"], { input: archive.subarray(0, length), maxBuffer: 2 ** 30 });
      expect(got.length).toBeGreaterThanOrEqual(asProgram.stdout.length);
      expect(got.length).toBeGreaterThan(content.length * share - (format === "bzip2" ? 300_000 : 140_000));
    }
  });

  it("gives all good members before one that is damaged", async () => {
    const parts = [logOf(500_000), logOf(200_000, 9)].map((part) => compress(format, part));
    const third = compress(format, logOf(900_000, 3));
    const from = Math.floor(third.length / 2);
    third.fill(0xff, from, from + 2000);
    const good = Buffer.concat([logOf(500_000), logOf(200_000, 9)]);
    const { content, end } = await readOf(format, readerOf(Buffer.concat([...parts, third]), 5000));
    expect(end.kind).toBe("damaged");
    expect(content.subarray(0, good.length).equals(good)).toBe(true);
    if (format === "gzip" || format === "zstd") {
      const third0 = parts[0]!.length + parts[1]!.length;
      expect(end.at).toBeGreaterThan(third0);
      expect(content.length).toBeGreaterThan(good.length + 300_000);
    }
  });

  it("goes on where it ended once there is more, whether the archive was cut or whole", async () => {
    const parts = [logOf(400_000), logOf(70_000, 9), logOf(10, 4)];
    const archive = Buffer.concat(parts.map((part) => compress(format, part)));
    const steps = format === "gzip" || format === "zstd" ? 40 : 6;
    let size = 0;
    const pieces = decompress(format, async (into, length, offset) =>
      offset >= size ? 0 : readerOf(archive)(into, Math.min(length, size - offset), offset),
    );
    const got: Buffer[] = [];
    const kinds: string[] = [];
    for (let step = 0; step <= steps; step += 1) {
      size = Math.floor((archive.length * step) / steps);
      for (;;) {
        const { value } = await pieces.next();
        if (Buffer.isBuffer(value)) got.push(value);
        else {
          kinds.push((value as ArchiveEnd).kind);
          break;
        }
      }
    }
    expect(Buffer.concat(got).equals(Buffer.concat(parts))).toBe(true);
    expect(kinds[0]).toBe("empty");
    expect(kinds.at(-1)).toBe("whole");
    expect(new Set(kinds.slice(1, -1))).not.toContain("damaged");
    await pieces.return(undefined);
  });

  it("reads a member that was appended after the end, without the others", async () => {
    const first = compress(format, logOf(300_000));
    const second = compress(format, Buffer.from("more\n"));
    let archive = first;
    let lowest = Number.POSITIVE_INFINITY;
    const pieces = decompress(format, async (into, length, offset) => {
      lowest = Math.min(lowest, offset);
      return readerOf(archive)(into, length, offset);
    });
    const next = async () => {
      const { value } = await pieces.next();
      return Buffer.isBuffer(value) ? value : (value as ArchiveEnd).kind;
    };
    while ((await next()) !== "whole");
    expect(await next()).toBe("whole");
    archive = Buffer.concat([first, second]);
    lowest = Number.POSITIVE_INFINITY;
    expect(String(await next())).toBe("more\n");
    expect(await next()).toBe("whole");
    expect(lowest).toBeGreaterThanOrEqual(first.length - 8);
    await pieces.return(undefined);
  });

  it("tells a damaged checksum, behind the whole content", async () => {
    const content = logOf(50_000);
    const archive = compress(format, content);
    // gzip: CRC before the size in the last 8 bytes; zstd: the last 4; xz and bzip2: in the last 40.
    const at = archive.length - { gzip: 8, zstd: 4, xz: 40, bzip2: 8 }[format];
    archive[at] = archive[at]! ^ 0x10;
    const { content: got, end } = await readOf(format, readerOf(archive));
    expect(end.kind).toBe("damaged");
    // There the checksum alone was touched; what the programs give of a block whose checksum is wrong is theirs.
    if (format === "gzip" || format === "zstd") expect(got.equals(content)).toBe(true);
    expect((await archiveEnd(format, readerOf(archive), archive.length)).kind).toBe("damaged");
  });

  it("hands on an error of the reading as it is", async () => {
    const archive = compress(format, logOf(800_000), "-1");
    const failing: ReadAt = async (into, length, offset) => {
      if (offset > 20_000) throw Object.assign(new Error("no disk"), { code: "EIO" });
      return readerOf(archive)(into, length, offset);
    };
    await expect(contentOf(format, failing)).rejects.toThrow("no disk");
    await expect(archiveEnd(format, failing, archive.length)).rejects.toThrow("no disk");
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
    for await (const piece of decompress(format, read)) {
      expect(Buffer.isBuffer(piece)).toBe(true);
      break;
    }
    expect(underWay).toBe(0);
  });
});

describe("decompress gzip", () => {
  it("passes over zeros behind the last member, as gzip does, and reads a member behind them", async () => {
    const archive = gzipSync("abc\n");
    const padded = Buffer.concat([archive, Buffer.alloc(300_000)]);
    expect(await readOf("gzip", readerOf(padded))).toMatchObject({ end: { kind: "whole" } });
    const more = Buffer.concat([padded, gzipSync("def\n")]);
    expect((await contentOf("gzip", readerOf(more))).toString()).toBe("abc\ndef\n");
  });

  it("gives what stands before other bytes behind the last member, and tells of them", async () => {
    const soiled = Buffer.concat([gzipSync("abc\n"), Buffer.from("rubbish")]);
    const { content, end } = await readOf("gzip", readerOf(soiled));
    expect(content.toString()).toBe("abc\n");
    expect(end).toMatchObject({ kind: "trailing", at: soiled.length - 7 });
  });

  it("takes a second member that has only begun for one that is yet to come", async () => {
    const archive = Buffer.concat([gzipSync(logOf(1000)), gzipSync(logOf(1000)).subarray(0, 3)]);
    expect((await archiveEnd("gzip", readerOf(archive), archive.length)).kind).toBe("cut");
  });

  it("reads headers with a name, a comment, extra fields and a checksum", async () => {
    const plain = gzipSync("abc\n");
    const rest = plain.subarray(10);
    const fixed = Buffer.from(plain.subarray(0, 10));
    const fields: [number, Buffer][] = [
      [4, Buffer.concat([Buffer.from([0x58, 2]), Buffer.alloc(600)])],
      [8, Buffer.from(`${"name".repeat(300)}\0`)],
      [16, Buffer.from("comment\0")],
      [2, Buffer.from([1, 2])],
    ];
    for (let chosen = 0; chosen < 16; chosen += 1) {
      const some = fields.filter((_, index) => ((chosen >> index) & 1) === 1);
      fixed[3] = some.reduce((flags, [flag]) => flags | flag, 0);
      const archive = Buffer.concat([fixed, ...some.map(([, bytes]) => bytes), rest]);
      expect(await readOf("gzip", readerOf(archive))).toMatchObject({ end: { kind: "whole" } });
      for (const length of [5, 11, 15, archive.length - rest.length - 1, archive.length - 1])
        expect(await kindOf("gzip", readerOf(archive.subarray(0, length)))).toBe("cut");
    }
  });

  it("says that what is named like an archive is text", async () => {
    const { end } = await readOf("gzip", readerOf(Buffer.from("21\n22\n")));
    expect(end.reason).toBe("it is no gzip archive: it does not begin as one, but with text");
  });

  it("gives all that zlib can decode before the data breaks, to the last symbols, and where it does", async () => {
    const content = logOf(1_000_000);
    const archive = gzipSync(content);
    for (const at of [20_000, 100_001, archive.length - 20_000]) {
      const damaged = Buffer.from(archive);
      damaged.fill(0xff, at, at + 3000);
      const { content: got, end } = await readOf("gzip", readerOf(damaged));
      expect(end.kind).toBe("damaged");
      expect(end.at).toBeGreaterThanOrEqual(at - 1);
      // What the untouched bytes before the damage decode to, by the same zlib.
      const before = inflateRawSync(damaged.subarray(10, at), { finishFlush: constants.Z_SYNC_FLUSH });
      expect(got.length).toBeGreaterThanOrEqual(before.length);
      expect(got.subarray(0, before.length).equals(content.subarray(0, before.length))).toBe(true);
    }
  });

  it.each([2000, 400_000])(
    "never calls changed bytes whole, nor loses what stands before them (%i bytes)",
    async (size) => {
      const content = logOf(size);
      const archive = gzipSync(content);
      await fc.assert(
        fc.asyncProperty(
          fc.nat(archive.length - 11),
          fc.integer({ min: 1, max: 255 }),
          fc.integer({ min: 1, max: 70_000 }),
          async (behindHeader, change, most) => {
            const at = 10 + behindHeader;
            const changed = Buffer.from(archive);
            changed[at] = changed[at]! ^ change;
            const { content: got, end } = await readOf("gzip", readerOf(changed, most));
            expect(["cut", "damaged", "trailing"]).toContain(end.kind);
            const before = inflateRawSync(changed.subarray(10, Math.min(at, archive.length - 8)), {
              finishFlush: constants.Z_SYNC_FLUSH,
            });
            expect(got.subarray(0, before.length).equals(before)).toBe(true);
          },
        ),
        { numRuns: 60 },
      );
    },
  );

  it("reads a hundred thousand members of a line each in a few seconds", async () => {
    const one = gzipSync("a line\n");
    const archive = Buffer.concat(Array.from({ length: 100_000 }, () => one));
    expect((await contentOf("gzip", readerOf(archive))).length).toBe(700_000);
  }, 60_000);
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
    expect((await archiveEnd("zstd", readerOf(archive), archive.length - 1)).kind).toBe("cut");
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
        const result = await readOf("zstd", readerOf(changed)).catch((error: TailraceError) => error.code);
        // A flipped bit in a field that changes nothing leaves the content as it was.
        if (typeof result === "string") expect(result).toBe("TR_ARCHIVE_UNSUPPORTED");
        else if (result.end.kind === "whole") expect(result.content.equals(content)).toBe(true);
        else expect(["cut", "damaged"]).toContain(result.end.kind);
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
    expect(await codeOf(archiveEnd(format, readerOf(Buffer.from("anything")), 8))).toBe("TR_ARCHIVE_UNSUPPORTED");
  });
});
