import { Transform } from "node:stream";
import type * as Zlib from "node:zlib";

// Not imported: who mocks `node:zlib` with this would wait for it, and it for them.
const zlib: typeof Zlib = process.getBuiltinModule("node:zlib");

/**
 * node:zlib with a `createInflateRaw` that works on this thread. The real one works on another, in real time: simulated
 * time would pass meanwhile, differently in each run, and a failing seed would not replay. The decoder is the same.
 */
export function syncZlib(): typeof Zlib {
  return { ...zlib, createInflateRaw: (() => new SyncInflateRaw()) as unknown as typeof Zlib.createInflateRaw };
}

/** Decodes all that it was given so far anew with each chunk: simulated archives are short. */
class SyncInflateRaw extends Transform {
  /** Bytes that belong to the data, as of the real one. */
  bytesWritten = 0;
  #given = Buffer.alloc(0);
  #contentBytes = 0;

  override _transform(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this.#given = Buffer.concat([this.#given, chunk]);
    try {
      const { buffer, engine } = zlib.inflateRawSync(this.#given, {
        info: true,
        finishFlush: zlib.constants.Z_SYNC_FLUSH,
      }) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
      this.bytesWritten = engine.bytesWritten;
      if (buffer.length > this.#contentBytes) this.push(buffer.subarray(this.#contentBytes));
      this.#contentBytes = buffer.length;
      done();
    } catch (error) {
      done(error as Error);
    }
  }
}
