import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import type { BytePath } from "../../runtime/byte-path.ts";
import { joinPath, pathFromText } from "../../runtime/byte-path.ts";
import type { FileSystem } from "../../runtime/file-system.ts";

/** The bytes of a file in any file system. */
export async function bytesOf(files: FileSystem, path: BytePath): Promise<Buffer> {
  const handle = await files.open(path, "read");
  const { size } = await handle.stat();
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; ) at += await handle.read(bytes, at, size - at, at);
  await handle.close();
  return bytes;
}

const bufferOf = (bytes: Buffer): AsyncBuffer => ({
  byteLength: bytes.length,
  slice: (start, end) => new Uint8Array(bytes.subarray(start, end)).buffer,
});

/** The rows of a Parquet file, by another hand than what wrote it reads its own: BigInt for INT64. */
export async function rowsOf(bytes: Buffer): Promise<{ readonly [column: string]: unknown }[]> {
  return parquetReadObjects({ file: bufferOf(bytes), compressors });
}

export const metadataOf = (bytes: Buffer) => parquetMetadataAsync(bufferOf(bytes));

/** Names in a folder, and the rows of each finished Parquet file in it. */
export async function finishedFiles(
  files: FileSystem,
  folder: string,
): Promise<{ readonly others: string[]; readonly rows: Map<string, { readonly [column: string]: unknown }[]> }> {
  const path = pathFromText(folder);
  const names = (await files.readdir(path).catch(() => [])).map(({ name }) => name).sort();
  const rows = new Map<string, { readonly [column: string]: unknown }[]>();
  for (const name of names) {
    if (name.endsWith(".parquet")) rows.set(String(name), await rowsOf(await bytesOf(files, joinPath(path, name))));
  }
  return { others: names.filter((name) => !name.endsWith(".parquet")).map(String), rows };
}
