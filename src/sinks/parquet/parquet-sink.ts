import { FileSink } from "../../outputs/file-sink.ts";
import type { Batch } from "../../record/index.ts";
import type { Timer } from "../../runtime/clock.ts";
import { type Marks, type Outcome, retry, type Sink, type SinkContext } from "../../stage/index.ts";
import { declaredSchema } from "./columns.ts";
import { Converter } from "./converter.ts";
import { journalBlock } from "./journal.ts";
import { JournalNames } from "./journal-names.ts";
import type { ParquetSinkOptions } from "./options.ts";
import { loadParquetLibrary } from "./parquet-file.ts";

/**
 * Writes Parquet files, each record exactly once. A Parquet file is of use only once its footer is written, so records
 * first go to a journal beside it, which is an output like any of the file sink's, with its barriers and its marks:
 *
 *     write ---> journal .x.parquet.open ---(barriers: fdatasync, mark, commit)---> acknowledged
 *                        |  rotation: size, age, SIGUSR1, idle, clean stop, next start
 *                        v
 *                closed journal ---> temp file ---> intent ---> x.parquet        (see converter.ts)
 *
 * Commits go on all the while: a crash costs what no commit covers, as with a plain file, however large the Parquet file
 * is to become. No record is in memory between its commit and the making of the Parquet file, whatever the number of files
 * that are open.
 */
export class ParquetSink implements Sink {
  readonly #context: SinkContext;
  readonly #files: FileSink;
  readonly #converter: Converter;
  readonly #idleMs: number;
  #idleTimer: Timer | undefined;

  private constructor(context: SinkContext, files: FileSink, converter: Converter, idleMs: number) {
    this.#context = context;
    this.#files = files;
    this.#converter = converter;
    this.#idleMs = idleMs;
    this.#watchIdle();
  }

  /**
   * @throws ConfigError where an optional package is missing
   * @throws StageError as the file sink does
   */
  static async open(options: ParquetSinkOptions, context: SinkContext): Promise<ParquetSink> {
    const library = await loadParquetLibrary(context.name, options.compression);
    const names = new JournalNames(options.path);
    const { mode, columns, max_open_outputs, rotate } = options;
    const converting = {
      schema: columns === undefined ? undefined : declaredSchema(columns),
      rowGroupRecords: options.row_group_records,
      rowGroupBytes: options.row_group_bytes,
      mode,
      keep: rotate.keep,
      createdBy: CREATED_BY,
    };
    const converter = new Converter(context, converting, library, names);
    const filing = {
      path: options.path,
      encoding: "json",
      // A journal that nothing is known of holds what no position covers: it is put aside, not converted.
      existing: "rotate",
      mode,
      max_open_outputs,
      rotate: { ...rotate, keep: 0 },
    } as const;
    const files = await FileSink.open(filing, context, { names, pack: journalBlock, successor: converter });
    converter.start();
    return new ParquetSink(context, files, converter, names.fixed === undefined ? options.close_idle_ms : 0);
  }

  async write(batch: Batch, options: { signal: AbortSignal }): Promise<Outcome> {
    if (this.#converter.isFull) {
      await this.#converter.room(options.signal);
      const { trouble } = this.#converter;
      if (this.#converter.isFull) {
        return retry(`Parquet files cannot be written: ${trouble ?? "the sink is stopping"}`, { afterMs: TROUBLE_MS });
      }
    }
    return this.#files.write(batch, options);
  }

  prepare(): Promise<Marks> {
    return this.#files.prepare();
  }

  committed(): Promise<void> {
    return this.#files.committed();
  }

  rotate(): void {
    this.#files.rotate();
  }

  /** Closes what is open and waits until all of it has become Parquet files. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#idleTimer?.cancel();
    await this.#files[Symbol.asyncDispose]();
    await this.#converter.finish();
  }

  #watchIdle(): void {
    if (this.#idleMs === 0) return;
    this.#idleTimer = this.#context.clock.after(Math.max(100, this.#idleMs / 4), () => {
      this.#files.rotateUnwritten(this.#idleMs);
      this.#watchIdle();
    });
  }
}

/** A disk in trouble is not asked more often than that. */
const TROUBLE_MS = 100;

/** What the footer says; some readers work around faults of writers that they know by name. */
const CREATED_BY = "tailrace";
