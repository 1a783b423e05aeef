import { resolve } from "node:path";
import { StageError, toError } from "../errors.ts";
import { folderOf, pathToText } from "../runtime/byte-path.ts";
import { defineSink } from "../stage/index.ts";
import { JournalNames } from "./parquet/journal-names.ts";
import { parquetSinkOptions } from "./parquet/options.ts";
import { loadParquetLibrary } from "./parquet/parquet-file.ts";
import { ParquetSink } from "./parquet/parquet-sink.ts";

/** Writes Parquet files, exactly once: records are journaled beside the file that they become. */
export const parquetSink = defineSink({
  type: "parquet",
  summary: "Writes Parquet files with typed columns, finished by size, age or signal; exactly once.",
  options: parquetSinkOptions,
  guarantee: "exactly_once",
  target: ({ path }) => resolve(path),
  open: (options, context) => ParquetSink.open(options, context),
  async probe(options, { name, fileSystem }) {
    await loadParquetLibrary(name, options.compression);
    try {
      let folder = new JournalNames(options.path).root;
      while (fileSystem.statSync(folder) === undefined && folder !== "/") folder = folderOf(folder);
      if (fileSystem.statSync(folder)?.kind !== "folder") throw new Error(`${pathToText(folder)} is no folder`);
    } catch (error) {
      throw new StageError("TR_STAGE_OPEN", name, `${options.path} cannot be written: ${toError(error).message}`, {
        cause: error,
      });
    }
  },
});
