import { resolve } from "node:path";
import { StageError, toError } from "../errors.ts";
import { probeFolder } from "../outputs/probe-folder.ts";
import { fixedOutput } from "../outputs/template.ts";
import { defineSink } from "../stage/index.ts";
import { JournalNames } from "./parquet/journal-names.ts";
import { parquetSinkOptions } from "./parquet/options.ts";
import { loadParquetLibrary } from "./parquet/parquet-file.ts";
import { ParquetSink } from "./parquet/parquet-sink.ts";

/**
 * What is there beside the batches in flight: the writer, its compressor and the garbage of both; a group's values, the
 * column chunk that is being made of them, and what the collector has not taken yet (bench/parquet says what was seen).
 */
const LIBRARY_BYTES = 64 * 1024 * 1024;
const GROUP_COPIES = 5;

/** Writes Parquet files, exactly once: records are journaled beside the file that they become. */
export const parquetSink = defineSink({
  type: "parquet",
  summary: "Writes Parquet files with typed columns, finished by size, age or signal; exactly once.",
  options: parquetSinkOptions,
  guarantee: "exactly_once",
  fleetingLoss: "at SIGKILL what an open Parquet file held of it is lost, as far as no commit covers it yet",
  memoryBytes: ({ row_group_bytes: bytes }) => LIBRARY_BYTES + bytes * GROUP_COPIES,
  target: ({ path }) => resolve(path),
  output: ({ path }) => fixedOutput(path),
  open: (options, context) => ParquetSink.open(options, context),
  async probe(options, { name, fileSystem }) {
    await loadParquetLibrary(name, options.compression);
    try {
      await probeFolder(new JournalNames(options.path).root, fileSystem);
    } catch (error) {
      throw new StageError("TR_STAGE_OPEN", name, `${options.path} cannot be written: ${toError(error).message}`, {
        cause: error,
      });
    }
  },
});
