import {
  type ArchivePiece,
  cutEnd,
  Damage,
  damagedEnd,
  endBetween,
  type ReadAt,
  readAhead,
  readUpTo,
  skipPadding,
  trailingEnd,
  unsupported,
} from "./archive-end.ts";
import { XxHash64 } from "./xxhash64.ts";

/*
 * Zstandard content, frame by frame (RFC 8878, section 3.1). The frames and blocks are walked here, one block is decoded
 * at a time by `fzstd`, which verifies no checksum and knows no limit of its window; both are done here.
 *
 *   frame: | magic 4 | descriptor 1 | window 0-1 | dictionary id 0-4 | content size 0-8 | block... | checksum 0 or 4 |
 *   block: | header 3: last 1 bit, type 2 bits, size 21 bits | content: `size` bytes, for type 1 (run length) 1 byte |
 *   skippable frame: | magic 4, 0x184D2A50 to 5F | size 4 | any bytes |
 */

const MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const SKIPPABLE_REST = Buffer.from([0x2a, 0x4d, 0x18]);
/** Largest frame header: magic, descriptor, window, dictionary id, content size. */
const HEADER_BYTES = 18;
const BLOCK_HEADER_BYTES = 3;
/** Largest block, encoded and decoded (RFC 8878, section 3.1.1.2.4). */
const MAX_BLOCK_BYTES = 128 * 1024;
/** What the `zstd` program accepts without being told more (`--long=27`); it bounds the memory held here. */
const MAX_WINDOW_BYTES = 128 * 1024 * 1024;

/** Stands for the checksum, which `fzstd` wants to see and does not verify. */
const NO_CHECKSUM = Buffer.alloc(4);

interface FrameHeader {
  readonly headerBytes: number;
  readonly hasChecksum: boolean;
  /** -1: not said. */
  readonly contentBytes: number;
}

/**
 * The content of a Zstandard archive; all its frames, one after the other. Ends only behind damage.
 *
 * @throws TailraceError `TR_ARCHIVE_UNSUPPORTED` (a dictionary, a window above 128 MiB)
 */
export async function* zstdContent(readAt: ReadAt): AsyncGenerator<ArchivePiece> {
  const read = readAhead(readAt);
  try {
    for (let offset = 0; ; ) {
      const at = offset === 0 ? 0 : await skipPadding(read, offset);
      const start = await readUpTo(read, HEADER_BYTES, at);
      const kind = kindOfFrame(start);
      if (start.length === 0) yield endBetween(at);
      else if (kind === "none" && offset > 0) yield trailingEnd(at);
      else if (kind === "none") throw new Damage(0, "it is no zstd archive: it does not begin as one");
      else if (kind === "unknown") yield cutEnd(at + start.length, "in the header of a frame");
      else if (kind === "skippable") {
        const next = at + 8 + start.readUInt32LE(4);
        if ((await readUpTo(read, 1, next - 1)).length > 0) offset = next;
        else yield cutEnd(at + start.length, "in the middle of a skippable frame");
      } else {
        const header = parseHeader(start, at);
        if (header === undefined) yield cutEnd(at + start.length, "in the header of a frame");
        else offset = yield* frameContent(read, at, start, header);
      }
    }
  } catch (error) {
    if (!(error instanceof Damage)) throw error;
    yield damagedEnd(error);
  }
}

/** `unknown`: more bytes must be there to tell. */
function kindOfFrame(start: Buffer): "frame" | "skippable" | "none" | "unknown" {
  if (start.length >= 4) {
    const magic = start.readUInt32LE(0);
    if (magic === MAGIC) return "frame";
    if ((magic & 0xfffffff0) >>> 0 !== SKIPPABLE_MAGIC) return "none";
    return start.length < 8 ? "unknown" : "skippable";
  }
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(MAGIC);
  const isBeginning =
    start.equals(magic.subarray(0, start.length)) ||
    ((start[0]! & 0xf0) === 0x50 && start.subarray(1).equals(SKIPPABLE_REST.subarray(0, start.length - 1)));
  return isBeginning ? "unknown" : "none";
}

/** @returns the offset behind the frame */
async function* frameContent(
  read: ReadAt,
  frameOffset: number,
  start: Buffer,
  header: FrameHeader,
): AsyncGenerator<ArchivePiece, number> {
  const { Decompress } = await import("fzstd");
  const hash = new XxHash64();
  let decoded: Uint8Array[] = [];
  const decoder = new Decompress((bytes) => decoded.push(bytes));
  let contentBytes = 0;
  let offset = frameOffset + header.headerBytes;
  let prefix = start.subarray(0, header.headerBytes);
  for (let isLast = false; !isLast; ) {
    const blockHeader = yield* readWhole(read, BLOCK_HEADER_BYTES, offset);
    const fields = blockHeader.readUIntLE(0, BLOCK_HEADER_BYTES);
    isLast = (fields & 1) === 1;
    const type = (fields >> 1) & 3;
    const size = fields >> 3;
    if (type === 3 || size > MAX_BLOCK_BYTES) throw new Damage(offset, "a block of it is none");
    const blockBytes = BLOCK_HEADER_BYTES + (type === 1 ? 1 : size);
    const block = yield* readWhole(read, blockBytes, offset);
    decoded = [];
    try {
      decoder.push(prefix.length === 0 ? block : Buffer.concat([prefix, block]), isLast && !header.hasChecksum);
      if (isLast && header.hasChecksum) decoder.push(NO_CHECKSUM, true);
    } catch {
      throw new Damage(offset, "a block of it cannot be decoded");
    }
    prefix = block.subarray(0, 0);
    for (const bytes of decoded) {
      contentBytes += bytes.length;
      hash.update(bytes);
      if (bytes.length > 0) yield Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    offset += blockBytes;
  }
  if (header.hasChecksum) {
    const checksum = yield* readWhole(read, 4, offset);
    if (checksum.readUInt32LE(0) !== Number(hash.digest() & 0xffffffffn))
      throw new Damage(offset, "the content of a frame does not match its checksum");
    offset += 4;
  }
  if (header.contentBytes >= 0 && header.contentBytes !== contentBytes)
    throw new Damage(offset, `a frame holds ${contentBytes} bytes and not the ${header.contentBytes} it says`);
  return offset;
}

/** All `length` bytes from `offset` on, as soon as they are there. */
async function* readWhole(read: ReadAt, length: number, offset: number): AsyncGenerator<ArchivePiece, Buffer> {
  for (;;) {
    const bytes = await readUpTo(read, length, offset);
    if (bytes.length === length) return bytes;
    yield cutEnd(offset + bytes.length, "in the middle of a frame");
  }
}

/** RFC 8878, section 3.1.1.1, of the frame at `at`. Undefined: the archive ends before the header does. */
function parseHeader(bytes: Buffer, at: number): FrameHeader | undefined {
  if (bytes.length < 5) return undefined;
  const descriptor = bytes[4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionaryIdBytes = [0, 1, 2, 4][descriptor & 3]!;
  const contentSizeFlag = descriptor >> 6;
  const contentSizeBytes = contentSizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 1 << contentSizeFlag;
  const dictionaryIdAt = isSingleSegment ? 5 : 6;
  const contentSizeAt = dictionaryIdAt + dictionaryIdBytes;
  const headerBytes = contentSizeAt + contentSizeBytes;
  if (bytes.length < headerBytes) return undefined;
  if ((descriptor & 8) !== 0) throw new Damage(at + 4, "the header of a frame has a reserved bit set");
  if (dictionaryIdBytes > 0 && bytes.readUIntLE(dictionaryIdAt, dictionaryIdBytes) !== 0) {
    throw unsupported(
      "the zstd archive cannot be read: it was compressed with a dictionary; decompress it by hand, or exclude it",
    );
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
      `the zstd archive cannot be read: it needs a window of ${mebibytes} MiB, above the 128 MiB that are read; compress it without --ultra --long`,
    );
  }
  return { headerBytes, hasChecksum: (descriptor & 4) !== 0, contentBytes };
}
