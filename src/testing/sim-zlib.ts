import { Transform } from "node:stream";
import type * as Zlib from "node:zlib";

// Not imported: who mocks `node:zlib` with this would wait for it, and it for them.
const zlib: typeof Zlib = process.getBuiltinModule("node:zlib");

/**
 * node:zlib with a `createGunzip` that works on this thread. The real one works on another, in real time: simulated time
 * would pass meanwhile, differently in each run, and a failing seed would not replay. The decoder is the same.
 */
export function syncZlib(): typeof Zlib {
  return { ...zlib, createGunzip: createSyncGunzip as unknown as typeof Zlib.createGunzip };
}

function createSyncGunzip(): Transform {
  const chunks: Buffer[] = [];
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      done();
    },
    flush(done) {
      try {
        this.push(zlib.gunzipSync(Buffer.concat(chunks)));
        done();
      } catch (error) {
        done(error as Error);
      }
    },
  });
}
