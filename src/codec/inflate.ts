import { constants, createInflateRaw, inflateRawSync } from "node:zlib";
import { errnoOf } from "../errors.ts";

/*
 * Raw deflate data (RFC 1951) by zlib, without losing what was decoded before data that cannot be: zlib's streams drop it.
 */

// 64 KiB: what zlib works in.
export const CHUNK_BYTES = 64 * 1024;
/** Data that is shorter is decoded in one go, without a stream: some write a member for each line. */
export const SMALL_DATA_BYTES = 16 * 1024;
const SMALL_CONTENT_BYTES = 128 * 1024;

/** Raw deflate data, given piece by piece; all that a piece makes is given out before the next is taken. */
export class Inflater {
  readonly #stream = createInflateRaw({ chunkSize: CHUNK_BYTES });
  #fedBytes = 0;
  #failure: Error | undefined;
  #wake = () => {};

  constructor() {
    this.#stream.on("error", (error) => {
      this.#failure = error;
      this.#wake();
    });
    for (const change of ["readable", "end", "close"]) this.#stream.on(change, () => this.#wake());
  }

  /** The data ends before what was fed last. */
  get isEnded(): boolean {
    return this.takenBytes < this.#fedBytes;
  }

  /** Bytes that belong to the data, of those that were fed. */
  get takenBytes(): number {
    return this.#stream.bytesWritten;
  }

  /** @throws zlib's error at what cannot be decoded; the inflater is of no use any more then */
  async *feed(input: Buffer): AsyncGenerator<Buffer> {
    let isTaken = false;
    this.#fedBytes += input.length;
    this.#stream.write(input, () => {
      isTaken = true;
      this.#wake();
    });
    for (;;) {
      // Before it is asked: what happens meanwhile must not be missed.
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const isDone = isTaken;
      const bytes = this.#stream.read() as Buffer | null;
      if (bytes !== null) yield bytes;
      else if (this.#failure !== undefined) throw this.#failure;
      else if (isDone) return;
      else await woken;
    }
  }

  close(): void {
    this.#stream.destroy();
  }
}

/** What zlib says of data that it cannot decode; undefined: another error. */
export function dataErrorOf(error: unknown): string | undefined {
  return errnoOf(error) === "Z_DATA_ERROR" ? (error as Error).message : undefined;
}

/**
 * What data begins with: `ended` within `bytes`, `open` where more of it may follow, `broken` where it cannot be decoded
 * behind `takenBytes`. Undefined: the content is too large to be held at once.
 */
export function inflateSmall(bytes: Buffer): SmallData | undefined {
  try {
    return inflateAtOnce(bytes);
  } catch (error) {
    const reason = dataErrorOf(error);
    if (reason === undefined) return undefined;
    let good = 0;
    for (let bad = bytes.length; bad - good > 1; ) {
      const middle = (good + bad) >> 1;
      if (canInflate(bytes.subarray(0, middle))) good = middle;
      else bad = middle;
    }
    const { content } = inflateAtOnce(bytes.subarray(0, good));
    return { content, takenBytes: good, state: "broken", reason };
  }
}

interface SmallData {
  readonly content: Buffer;
  readonly takenBytes: number;
  readonly state: "ended" | "open" | "broken";
  readonly reason: string;
}

function inflateAtOnce(bytes: Buffer): SmallData {
  if (bytes.length === 0) return { content: bytes, takenBytes: 0, state: "open", reason: "" };
  const { buffer, engine } = inflateRawSync(bytes, {
    info: true,
    finishFlush: constants.Z_SYNC_FLUSH,
    maxOutputLength: SMALL_CONTENT_BYTES,
  }) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
  const takenBytes = engine.bytesWritten;
  return { content: buffer, takenBytes, state: takenBytes < bytes.length ? "ended" : "open", reason: "" };
}

function canInflate(bytes: Buffer): boolean {
  try {
    inflateAtOnce(bytes);
    return true;
  } catch {
    return false;
  }
}
