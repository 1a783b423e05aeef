import { CheckpointError } from "../errors.ts";

/** Version of the rows that this program writes. Rises with every change that an older program would misread. */
export const SCHEMA_VERSION = 1;

/** Rows as text, by key; see store-rows.ts. */
export type TextRows = ReadonlyMap<string, string>;

/** Brings the rows of one version to the next. */
interface Migration {
  /** The version that it starts from; it ends at `from + 1`. */
  readonly from: number;
  /** Rows to write or, where undefined, to remove, by key. */
  rewrite(rows: TextRows): ReadonlyMap<string, string | undefined>;
}

/** One for each version before the present one, oldest first. None yet: version 1 is the first. */
const MIGRATIONS: readonly Migration[] = [];

/** A schema: the program's own, or a test's. */
export interface Schema {
  readonly version: number;
  readonly migrations: readonly Migration[];
}

export const SCHEMA: Schema = { version: SCHEMA_VERSION, migrations: MIGRATIONS };

/**
 * All that has to change in one transaction to bring rows of version `stored` to the present one.
 * @throws CheckpointError `TR_STATE_NEWER` if `stored` is above it.
 */
export function migrate(
  stored: number,
  rows: TextRows,
  { version, migrations }: Schema,
  stateDir: string,
): Map<string, string | undefined> {
  if (stored > version) {
    throw new CheckpointError(
      "TR_STATE_NEWER",
      `${stateDir} was written by a newer version of tailrace (schema ${stored}, this one knows ${version}); ` +
        "nothing was changed. Run the newer version, or export the checkpoints with it and give this one an empty " +
        "state directory to import them into",
    );
  }
  const changes = new Map<string, string | undefined>();
  const present = new Map(rows);
  for (let at = stored; at < version; at += 1) {
    const step = migrations.find((migration) => migration.from === at);
    if (step === undefined) {
      throw new CheckpointError("TR_INTERNAL", `there is no migration from schema ${at} to ${at + 1}`);
    }
    for (const [key, value] of step.rewrite(present)) {
      changes.set(key, value);
      if (value === undefined) present.delete(key);
      else present.set(key, value);
    }
  }
  return changes;
}
