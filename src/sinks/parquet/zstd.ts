import { decompress } from "fzstd";

/** Beyond 3 a level gains under 3 % on time slots and takes twice as long. */
const LEVEL = 3;

type Compress = (bytes: Uint8Array) => Uint8Array;

let loaded: Promise<Compress> | undefined;

/**
 * Zstandard out of the package `@bokuweb/zstd-wasm`. Made ready once for the whole process: a second `init` gives the
 * running code another memory, and everything that it makes from then on is garbage (seen). Somebody else may call it in
 * this process, and nothing would say so; so what is made is looked at by another decoder before anybody relies on it.
 * Rejects with ERR_MODULE_NOT_FOUND where the package is not installed.
 */
export function loadZstd(): Promise<Compress> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<Compress> {
  const zstd = await import("@bokuweb/zstd-wasm");
  await zstd.init();
  return verified((bytes) => zstd.compress(bytes, LEVEL));
}

/** @internal The same, but what does not come out again as it was is an error. */
export function verified(compress: Compress): Compress {
  return (bytes) => {
    const packed = compress(bytes);
    if (!isSame(packed, bytes)) throw new Error("zstd made something else of the data than what it was given");
    return packed;
  };
}

function isSame(packed: Uint8Array, bytes: Uint8Array): boolean {
  try {
    return Buffer.compare(decompress(packed, new Uint8Array(bytes.length)), bytes) === 0;
  } catch {
    return false;
  }
}
