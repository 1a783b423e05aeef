import { crc32 } from "node:zlib";
import {
  type ArchivePiece,
  cutEnd,
  Damage,
  damagedEnd,
  endBetween,
  type ReadAt,
  readAhead,
  readSome,
  readUpTo,
  skipPadding,
  trailingEnd,
} from "./archive-end.ts";
import { CHUNK_BYTES, dataErrorOf, Inflater, inflateSmall, SMALL_DATA_BYTES } from "./inflate.ts";

/*
 * gzip content, member by member (RFC 1952):
 *
 *   member: | 1f 8b 08 | flags 1 | time 4, extra flags 1, system 1 | by flags: extra, name, comment, checksum | deflate data | crc32 4 | size 4 |
 *
 * Only the deflate data goes through zlib. Its own decoder of gzip drops, at an error, what it has decoded and not yet
 * given; and it does not tell a member that is damaged from what stands behind the last one.
 */

const FIXED_HEADER_BYTES = 10;
const TRAILER_BYTES = 8;
const FLAG = { headerChecksum: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 };
/** Extra fields, a name and a comment that are longer were never written by anybody. */
const MAX_HEADER_BYTES = 256 * 1024;
/**
 * Where the data cannot be decoded it is decoded anew, up to there in ever smaller pieces: what zlib makes of each is
 * given before the next is tried, so nothing that can be decoded is lost.
 */
const FINER_PIECES = [256, 1];

/** The content of a gzip archive; all its members, one after the other. Ends only behind damage. */
export async function* gzipContent(readAt: ReadAt): AsyncGenerator<ArchivePiece> {
  const read = readAhead(readAt);
  try {
    let isSmall = true;
    for (let memberAt = 0; ; ) {
      // Padding at the very start would be no archive.
      const at = memberAt === 0 ? 0 : await skipPadding(read, memberAt);
      const header = await readHeader(read, at, memberAt > 0);
      if (typeof header !== "number") {
        yield header;
        continue;
      }
      memberAt = yield* memberContent(read, header, isSmall);
      isSmall = memberAt - at < SMALL_DATA_BYTES;
    }
  } catch (error) {
    if (!(error instanceof Damage)) throw error;
    yield damagedEnd(error);
  }
}

/** The offset of the data, or how the archive ends. */
async function readHeader(read: ReadAt, at: number, isBehindMember: boolean): Promise<number | ArchivePiece> {
  let header = await readUpTo(read, 512, at);
  if (header.length === 0) return endBetween(at);
  if (!Buffer.from([0x1f, 0x8b]).subarray(0, header.length).equals(header.subarray(0, 2))) {
    if (isBehindMember) return trailingEnd(at);
    throw new Damage(at, `it is no gzip archive: it does not begin as one${isText(header) ? ", but with text" : ""}`);
  }
  for (;;) {
    const length = headerLength(header, at);
    if (length !== undefined) return at + length;
    const longer = await readUpTo(read, header.length * 2, at);
    if (longer.length <= header.length) return cutEnd(at + header.length, "in the header of a member");
    if (longer.length > MAX_HEADER_BYTES) throw new Damage(at, "the header of a member has no end");
    header = longer;
  }
}

/** Undefined where more of it is needed. */
function headerLength(bytes: Buffer, at: number): number | undefined {
  if (bytes.length < FIXED_HEADER_BYTES) return undefined;
  if (bytes[2] !== 8) throw new Damage(at + 2, `a member is compressed by method ${bytes[2]}, and only 8 is known`);
  const flags = bytes[3]!;
  if ((flags & FLAG.reserved) !== 0) throw new Damage(at + 3, "the header of a member has reserved flags set");
  let length = FIXED_HEADER_BYTES;
  if ((flags & FLAG.extra) !== 0) {
    if (bytes.length < length + 2) return undefined;
    length += 2 + bytes.readUInt16LE(length);
  }
  for (const flag of [FLAG.name, FLAG.comment]) {
    if ((flags & flag) === 0) continue;
    const zeroAt = bytes.indexOf(0, length);
    if (zeroAt < 0) return undefined;
    length = zeroAt + 1;
  }
  if ((flags & FLAG.headerChecksum) !== 0) length += 2;
  return length <= bytes.length ? length : undefined;
}

/** @returns the offset behind the member */
async function* memberContent(read: ReadAt, dataAt: number, isSmall: boolean): AsyncGenerator<ArchivePiece, number> {
  let given = 0;
  while (isSmall) {
    const bytes = await readUpTo(read, SMALL_DATA_BYTES, dataAt);
    const small = inflateSmall(bytes);
    if (small === undefined || (small.state === "open" && bytes.length === SMALL_DATA_BYTES)) break;
    const { content, takenBytes, state } = small;
    if (content.length > given) yield content.subarray(given);
    given = Math.max(given, content.length);
    if (state === "ended") return yield* trailer(read, dataAt + takenBytes, crc32(content), content.length);
    if (state === "broken") throw brokenData(dataAt + takenBytes, small.reason);
    yield cutEnd(dataAt + bytes.length, "in the middle of a member");
  }
  return yield* longContent(read, dataAt, given);
}

/** The same, piece by piece, without the first `before` bytes of the content. */
async function* longContent(read: ReadAt, dataAt: number, before: number): AsyncGenerator<ArchivePiece, number> {
  const inflater = new Inflater();
  let sum = 0;
  let contentBytes = 0;
  let at = dataAt;
  try {
    while (!inflater.isEnded) {
      const chunk = await readSome(read, CHUNK_BYTES, at);
      if (chunk.length === 0) yield cutEnd(at, "in the middle of a member");
      else {
        try {
          for await (const bytes of inflater.feed(chunk)) {
            sum = crc32(bytes, sum);
            contentBytes += bytes.length;
            if (contentBytes > before) yield lastOf(bytes, contentBytes - before);
          }
        } catch (error) {
          const reason = dataErrorOf(error);
          if (reason === undefined) throw error;
          const brokeAt = yield* salvage(read, dataAt, at, Math.max(before, contentBytes));
          throw brokenData(brokeAt, reason);
        }
        at += chunk.length;
      }
    }
    at = dataAt + inflater.takenBytes;
  } finally {
    inflater.close();
  }
  return yield* trailer(read, at, sum, contentBytes);
}

function brokenData(at: number, reason: string): Damage {
  return new Damage(at, `its data is damaged (${reason})`);
}

function lastOf(bytes: Buffer, length: number): Buffer {
  return bytes.subarray(Math.max(0, bytes.length - length));
}

/** @returns the offset behind it */
async function* trailer(
  read: ReadAt,
  at: number,
  sum: number,
  contentBytes: number,
): AsyncGenerator<ArchivePiece, number> {
  for (;;) {
    const bytes = await readUpTo(read, TRAILER_BYTES, at);
    if (bytes.length === TRAILER_BYTES) {
      // The size is that of the content modulo 2^32.
      if (bytes.readUInt32LE(0) !== sum) throw new Damage(at, "the content of a member does not match its checksum");
      if (bytes.readUInt32LE(4) !== contentBytes % 2 ** 32)
        throw new Damage(at + 4, "the content of a member does not have the size that it says");
      return at + TRAILER_BYTES;
    }
    yield cutEnd(at + bytes.length, "before the checksum of a member");
  }
}

/**
 * What can be decoded of a member whose data breaks at or behind `suspectAt`, without the first `given` bytes.
 *
 * @returns where it breaks
 */
async function* salvage(
  read: ReadAt,
  dataAt: number,
  suspectAt: number,
  given: number,
): AsyncGenerator<Buffer, number> {
  let goodUntil = suspectAt;
  let doneBytes = given;
  for (const pieceBytes of FINER_PIECES) {
    const inflater = new Inflater();
    let at = dataAt;
    let contentBytes = 0;
    try {
      while (!inflater.isEnded) {
        const wanted = at < goodUntil ? Math.min(CHUNK_BYTES, goodUntil - at) : pieceBytes;
        const piece = await readSome(read, wanted, at);
        if (piece.length === 0) break;
        for await (const bytes of inflater.feed(piece)) {
          contentBytes += bytes.length;
          if (contentBytes <= doneBytes) continue;
          const fresh = lastOf(bytes, contentBytes - doneBytes);
          doneBytes = contentBytes;
          yield fresh;
        }
        at += piece.length;
      }
    } catch (error) {
      if (dataErrorOf(error) === undefined) throw error;
    } finally {
      inflater.close();
    }
    goodUntil = at;
  }
  return goodUntil;
}

/** Printable ASCII, tabs and line ends only. */
function isText(bytes: Buffer): boolean {
  return bytes.subarray(0, 64).every((byte) => (byte >= 0x20 && byte < 0x7f) || (byte >= 9 && byte <= 13));
}
