import { z } from "zod";
import { fileSinkOptions } from "../../outputs/options.ts";

/** Types that a column can be declared with; what they become in Parquet is in `columns.ts`. */
const COLUMN_TYPES = ["boolean", "int64", "double", "string", "timestamp", "json"] as const;
export type ColumnType = (typeof COLUMN_TYPES)[number];

/** The column that takes what has no column of its own. */
export const REST_COLUMN = "event";

const { path, mode, max_open_outputs, rotate } = fileSinkOptions.shape;

/** The keys of `[sinks.NAME]` with `type = "parquet"`. */
export const parquetSinkOptions = z.strictObject({
  path: path
    .refine((text) => text.endsWith(".parquet"), 'must end in ".parquet", by which readers find finished files')
    .describe(
      "The file to write. `{host}` stands for a field of the event (a missing one is `_`), `{time:%Y-%m-%dT%H}` for its time in UTC. The time decides down to the hour which file a record goes to; minutes and seconds are those of the file's first record. A name that exists gets `-1`, `-2`, ... before its ending; nothing is ever overwritten, and a file has its name only once it is complete.",
    ),
  compression: z
    .enum(["snappy", "zstd", "none"])
    .default("snappy")
    .describe("Codec of the pages. `zstd` needs the package `@bokuweb/zstd-wasm`."),
  row_group_records: z.int().positive().max(10_000_000).default(100_000).describe("Most records of a row group."),
  row_group_bytes: z
    .int()
    .positive()
    .default(33_554_432)
    .describe(
      "Most bytes of values that a row group is gathered from, in memory; a group ends early where its values are larger.",
    ),
  columns: z
    .record(z.string().min(1), z.enum(COLUMN_TYPES))
    .refine((columns) => !(REST_COLUMN in columns), `"${REST_COLUMN}" is the column that takes all other fields`)
    .optional()
    .describe(
      'The columns, in order, as `status = "int64"`. Fields without a column, and values that do not fit theirs, go as JSON into the column `event`. Not given: each field of the file\'s records is a column, with the type that all its values have in common, and JSON where they have none; time slots have types of their own.',
    ),
  close_idle_ms: z
    .int()
    .nonnegative()
    .default(300_000)
    .describe(
      "A file of a `path` with placeholders that got no record for so long is finished, milliseconds; 0: never.",
    ),
  mode,
  max_open_outputs: max_open_outputs.describe(
    "Files of a `path` with placeholders that are open at once; the one not used for longest is finished.",
  ),
  rotate: rotate.describe(
    "When to finish a file and begin a new one; SIGUSR1 does it too. `max_bytes` counts what is gathered for it, compressed, which is about what the Parquet file takes.",
  ),
});

export type ParquetSinkOptions = z.infer<typeof parquetSinkOptions>;
