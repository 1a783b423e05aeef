import type { CompressionCodec, RowGroup as WrittenGroup } from "hyparquet";
import type * as Writing from "hyparquet-writer";
import { ConfigError, errnoOf } from "../../errors.ts";
import type { FileHandle } from "../../runtime/file-system.ts";
import { type Column, type Schema, schemaElement } from "./columns.ts";
import type { ParquetSinkOptions } from "./options.ts";
import { REST_COLUMN } from "./options.ts";
import type { RowGroup } from "./row-group.ts";
import { loadZstd } from "./zstd.ts";

/** What writes Parquet: an optional package, loaded when it is configured. */
export interface ParquetLibrary {
  readonly writing: typeof Writing;
  readonly codec: CompressionCodec;
  readonly compress: ((bytes: Uint8Array) => Uint8Array) | undefined;
}

/** @throws ConfigError that names the package to install */
export async function loadParquetLibrary(
  name: string,
  compression: ParquetSinkOptions["compression"],
): Promise<ParquetLibrary> {
  const writing = await import("hyparquet-writer").catch((error: unknown) =>
    missing(error, `sinks.${name}.type`, "hyparquet-writer"),
  );
  if (compression !== "zstd") {
    return { writing, codec: compression === "none" ? "UNCOMPRESSED" : "SNAPPY", compress: undefined };
  }
  const compress = await loadZstd().catch((error: unknown) =>
    missing(error, `sinks.${name}.compression`, "@bokuweb/zstd-wasm"),
  );
  return { writing, codec: "ZSTD", compress };
}

function missing(error: unknown, key: string, name: string): never {
  if (errnoOf(error) !== "ERR_MODULE_NOT_FOUND") throw error;
  throw new ConfigError([{ key, message: `needs a package that is not installed: npm install ${name}` }]);
}

/**
 * Writes one Parquet file, row group by row group, into an empty file. Each column chunk is on its way to the disk before
 * the next is encoded: no more than one is held, and between two of them the event loop turns (a chunk of 100,000 values
 * takes 20 to 40 ms).
 */
export class ParquetFile {
  readonly #handle: FileHandle;
  readonly #bytes: Writing.ByteWriter;
  readonly #writer: Writing.ParquetWriter;
  #written = 0;

  constructor(handle: FileHandle, schema: Schema, { writing, codec, compress }: ParquetLibrary, createdBy: string) {
    this.#handle = handle;
    this.#bytes = new writing.ByteWriter();
    const columns: readonly Column[] = schema.hasRest
      ? [...schema.columns, { name: REST_COLUMN, type: "json", isDeclared: false }]
      : schema.columns;
    this.#writer = new writing.ParquetWriter({
      writer: this.#bytes,
      schema: [{ name: "schema", num_children: columns.length }, ...columns.map(schemaElement)],
      codec,
      ...(compress === undefined ? {} : { compressors: { [codec]: compress } }),
      createdBy,
    });
  }

  async write(group: RowGroup): Promise<void> {
    group.level();
    const { row_groups: groups } = this.#writer;
    const rowsBefore = this.#writer.num_rows;
    const first = groups.length;
    for (const filling of group.columns) {
      // A call of its own makes a row group of its own: they are united below, as one was meant.
      await this.#writer.write({ columnData: [columnData(filling)], rowGroupSize: group.rows });
      await this.#flush();
    }
    groups.push(united(groups.splice(first)));
    this.#writer.num_rows = rowsBefore + BigInt(group.rows);
  }

  /** Writes the footer; the file is complete, and not yet durable. */
  async finish(): Promise<void> {
    // Readers take text for JSON only where it is also said the old way; the writer, told so before, would make JSON of it once more.
    this.#writer.schema = this.#writer.schema.map((element) =>
      element.logical_type?.type === "JSON" ? { ...element, converted_type: "JSON" } : element,
    );
    await this.#writer.finish();
    await this.#flush();
  }

  async #flush(): Promise<void> {
    const bytes = this.#bytes.getBytes();
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let done = 0; done < buffer.length; ) {
      const count = await this.#handle.write(buffer, done, buffer.length - done, this.#written);
      if (count === 0) throw new Error("the file system took no bytes");
      done += count;
      this.#written += count;
    }
    // What was written before counts in `offset`, `index` is the place in the buffer.
    this.#bytes.index = 0;
  }
}

function columnData(filling: RowGroup["columns"][number]): Writing.ColumnSource {
  const { name, type } = filling.column;
  const values = filling.values();
  if (type === "int64") return { name, data: values.map((value) => (value === null ? null : BigInt(value as number))) };
  // Times rise by little: their differences take a byte where they themselves take eight.
  if (type === "timestamp") return { name, data: [...values], encoding: "DELTA_BINARY_PACKED" };
  const encoding = filling.isPlain ? ({ encoding: "PLAIN" } as const) : {};
  if (type === "json") {
    const encoder = new TextEncoder();
    const data = values.map((value) => (typeof value === "string" ? encoder.encode(value) : value));
    // The least and the greatest JSON text mean nothing to anybody, and would stand whole in the footer.
    return { name, data, statistics: false, ...encoding };
  }
  return { name, data: [...values], ...encoding };
}

function united(parts: readonly WrittenGroup[]): WrittenGroup {
  return {
    columns: parts.flatMap(({ columns }) => columns),
    total_byte_size: parts.reduce((sum, part) => sum + part.total_byte_size, 0n),
    num_rows: parts[0]?.num_rows ?? 0n,
    total_compressed_size: parts.reduce((sum, part) => sum + (part.total_compressed_size ?? 0n), 0n),
  };
}
