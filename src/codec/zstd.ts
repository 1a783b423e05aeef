import { TailraceError } from "../errors.ts";
import { XxHash64 } from "./xxhash64.ts";

/*
 * Zstandard content, frame by frame (RFC 8878, section 3.1). The frames and blocks are walked here, one block is decoded
 * at a time by `fzstd`, which verifies no checksum and knows no limit of its window; both are done here.
 *
 *   frame: | magic 4 | descriptor 1 | window 0-1 | dictionary id 0-4 | content size 0-8 | block... | checksum 0 or 4 |
 *   block: | header 3: last 1 bit, type 2 bits, size 21 bits | content: `size` bytes, for type 1 (run length) 1 byte |
 *   skippable frame: | magic 4, 0x184D2A50 to 5F | size 4 | any bytes |
 */

/** Bytes into `into[0, length)` from `offset` of the archive; 0 at its end. May be short. */
export type ReadAt = (into: Buffer, length: number, offset: number) => Promise<number>;

const MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
/** Largest frame header: magic, descriptor, window, dictionary id, content size. */
const HEADER_BYTES = 18;
const BLOCK_HEADER_BYTES = 3;
/** Largest block, encoded and decoded (RFC 8878, section 3.1.1.2.4). */
const MAX_BLOCK_BYTES = 128 * 1024;
/** What the `zstd` program accepts without being told more (`--long=27`); it bounds the memory held here. */
const MAX_WINDOW_BYTES = 128 * 1024 * 1024;

interface FrameHeader {
  readonly headerBytes: number;
  readonly hasChecksum: boolean;
  /** -1: not said. */
  readonly contentBytes: number;
}

/**
 * The content of a Zstandard archive; all its frames, one after the other.
 *
 * @throws TailraceError `TR_ARCHIVE_DAMAGED`, `TR_ARCHIVE_UNSUPPORTED` (a dictionary, a window above 128 MiB)
 */
export async function* zstdContent(read: ReadAt): AsyncGenerator<Buffer> {
  let offset = 0;
  for (;;) {
    const header = await readUpTo(read, HEADER_BYTES, offset);
    if (header.length === 0) return;
    if (header.length < 8) throw damaged("ends in the middle of a frame header");
    const magic = header.readUInt32LE(0);
    if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) {
      offset += 8 + header.readUInt32LE(4);
      if ((await readUpTo(read, 1, offset - 1)).length === 0) throw damaged("ends in the middle of a skippable frame");
    } else if (magic === MAGIC) {
      offset = yield* frameContent(read, offset, header);
    } else {
      throw damaged(`no frame starts at byte ${offset}`);
    }
  }
}

/** @returns the offset behind the frame */
async function* frameContent(read: ReadAt, frameOffset: number, start: Buffer): AsyncGenerator<Buffer, number> {
  const { Decompress } = await import("fzstd");
  const header = parseHeader(start);
  const hash = new XxHash64();
  let decoded: Uint8Array[] = [];
  const decoder = new Decompress((bytes) => decoded.push(bytes));
  let contentBytes = 0;
  let offset = frameOffset + header.headerBytes;
  let prefix = start.subarray(0, header.headerBytes);
  for (let isLast = false; !isLast; ) {
    const blockHeader = await readUpTo(read, BLOCK_HEADER_BYTES, offset);
    if (blockHeader.length < BLOCK_HEADER_BYTES) throw damaged("ends in the middle of a frame");
    const fields = blockHeader.readUIntLE(0, BLOCK_HEADER_BYTES);
    isLast = (fields & 1) === 1;
    const type = (fields >> 1) & 3;
    const size = fields >> 3;
    if (type === 3 || size > MAX_BLOCK_BYTES) throw damaged(`the block at byte ${offset} is none`);
    const blockBytes = BLOCK_HEADER_BYTES + (type === 1 ? 1 : size);
    const trailerBytes = isLast && header.hasChecksum ? 4 : 0;
    const block = await readUpTo(read, blockBytes + trailerBytes, offset);
    if (block.length < blockBytes + trailerBytes) throw damaged("ends in the middle of a block");
    decoded = [];
    try {
      decoder.push(prefix.length === 0 ? block : Buffer.concat([prefix, block]), isLast);
    } catch (error) {
      throw damaged(`the block at byte ${offset} cannot be decoded`, error);
    }
    prefix = block.subarray(0, 0);
    offset += blockBytes;
    for (const bytes of decoded) {
      contentBytes += bytes.length;
      hash.update(bytes);
      if (bytes.length > 0) yield Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    if (trailerBytes > 0) {
      if (block.readUInt32LE(blockBytes) !== Number(hash.digest() & 0xffffffffn)) {
        throw damaged("the content does not match its checksum");
      }
      offset += trailerBytes;
    }
  }
  if (header.contentBytes >= 0 && header.contentBytes !== contentBytes) {
    throw damaged(`a frame holds ${contentBytes} bytes and not the ${header.contentBytes} it says`);
  }
  return offset;
}

/** RFC 8878, section 3.1.1.1. `bytes` may be shorter than a header where the archive ends. */
function parseHeader(bytes: Buffer): FrameHeader {
  const descriptor = bytes[4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionaryIdBytes = [0, 1, 2, 4][descriptor & 3]!;
  const contentSizeFlag = descriptor >> 6;
  const contentSizeBytes = contentSizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 1 << contentSizeFlag;
  const dictionaryIdAt = isSingleSegment ? 5 : 6;
  const contentSizeAt = dictionaryIdAt + dictionaryIdBytes;
  const headerBytes = contentSizeAt + contentSizeBytes;
  if (bytes.length < headerBytes) throw damaged("ends in the middle of a frame header");
  if ((descriptor & 8) !== 0) throw damaged("the frame header has a reserved bit set");
  if (dictionaryIdBytes > 0 && bytes.readUIntLE(dictionaryIdAt, dictionaryIdBytes) !== 0) {
    throw unsupported("it was compressed with a dictionary; decompress it by hand, or exclude it");
  }
  let contentBytes = -1;
  if (contentSizeBytes === 8) contentBytes = Number(bytes.readBigUInt64LE(contentSizeAt));
  else if (contentSizeBytes > 0) contentBytes = bytes.readUIntLE(contentSizeAt, contentSizeBytes);
  if (contentSizeBytes === 2) contentBytes += 256;
  let windowBytes = contentBytes;
  if (!isSingleSegment) {
    const base = 2 ** (10 + (bytes[5]! >> 3));
    windowBytes = base + (base / 8) * (bytes[5]! & 7);
  }
  if (windowBytes > MAX_WINDOW_BYTES) {
    const mebibytes = Math.ceil(windowBytes / 2 ** 20);
    throw unsupported(
      `it needs a window of ${mebibytes} MiB, above the 128 MiB that are read; compress it without --ultra --long`,
    );
  }
  return { headerBytes, hasChecksum: (descriptor & 4) !== 0, contentBytes };
}

/** A buffer of its own with `length` bytes, fewer only at the end. */
async function readUpTo(read: ReadAt, length: number, offset: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const count = await read(bytes.subarray(filled), length - filled, offset + filled);
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}

function damaged(what: string, cause?: unknown): TailraceError {
  return new TailraceError("TR_ARCHIVE_DAMAGED", `the zstd archive is damaged: ${what}`, { cause });
}

function unsupported(what: string): TailraceError {
  return new TailraceError("TR_ARCHIVE_UNSUPPORTED", `the zstd archive cannot be read: ${what}`);
}
