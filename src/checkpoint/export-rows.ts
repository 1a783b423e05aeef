import { CheckpointError, ConfigError } from "../errors.ts";
import type { Change, StoredState } from "./checkpoint-store.ts";
import { SCHEMA_VERSION } from "./schema.ts";
import { changesOf, checkRow, RowProblem, rowKey } from "./store-rows.ts";

/**
 * Checkpoints as NDJSON: a first line, one line for each row, a last line that counts the rows, so that an export that
 * was cut short is not taken for a whole one.
 *
 * ```
 * {"table":"schema","version":1}
 * {"table":"file","source":"app","file":"8f3a","value":{...}}
 * {"table":"position","sink":"out","source":"app","file":"8f3a","value":{"prefix":1234,"ranges":[]}}
 * {"table":"mark","sink":"out","name":"length","value":5678}
 * {"table":"note","name":"ledger","value":{...}}
 * {"table":"end","rows":4}
 * ```
 */
export function* exportRows(state: StoredState): Generator<string, void, undefined> {
  let rows = 0;
  yield JSON.stringify({ table: "schema", version: SCHEMA_VERSION });
  for (const change of changesOf(state)) {
    rows += 1;
    yield JSON.stringify(change);
  }
  yield JSON.stringify({ table: "end", rows });
}

/**
 * Reads what `exportRows` wrote into changes that bring them into an empty store with one `commit`. Rows written by
 * hand need neither first nor last line; where there is a first, there must be the last.
 *
 * @param lines Without their newlines; empty ones are passed over.
 * @param options.name What messages call the input.
 * @throws ConfigError `TR_USAGE` naming the line and the field of the first mistake.
 * @throws CheckpointError `TR_STATE_NEWER` for an export of a newer version.
 */
export async function importRows(
  lines: Iterable<string> | AsyncIterable<string>,
  options: { name?: string } = {},
): Promise<Change[]> {
  const changes: Change[] = [];
  const lineOf = new Map<string, number>();
  let line = 0;
  let hasStart = false;
  let hasEnd = false;
  const refuse = (field: string, message: string): ConfigError => {
    const where = { file: options.name ?? "input", line, ...(field === "" ? {} : { key: field }) };
    return new ConfigError([{ ...where, message }], "TR_USAGE");
  };
  for await (const text of lines) {
    line += 1;
    if (text.trim() === "") continue;
    if (hasEnd) throw refuse("", "there is a row behind the last line of the export");
    const raw = parseLine(text, refuse);
    if (raw["table"] === "schema") {
      if (changes.length > 0 || hasStart) throw refuse("table", '"schema" is the first line of an export only');
      checkVersion(raw["version"], refuse);
      hasStart = true;
    } else if (raw["table"] === "end") {
      if (raw["rows"] !== changes.length) {
        throw refuse("rows", `is ${raw["rows"]}, but ${changes.length} rows came before: the export is not whole`);
      }
      hasEnd = true;
    } else {
      const change = rowAt(raw, refuse);
      const key = rowKey(change);
      if (lineOf.has(key)) throw refuse("", `the same ${change.table} row is on line ${lineOf.get(key)} already`);
      lineOf.set(key, line);
      changes.push(change);
    }
  }
  if (hasStart && !hasEnd) throw refuse("", 'the export is cut off: its last line, {"table":"end"}, is missing');
  return changes;
}

type Refuse = (field: string, message: string) => ConfigError;

function parseLine(text: string, refuse: Refuse): { readonly [field: string]: unknown } {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch {
    throw refuse("", "no JSON; each line is one JSON object as `tailrace checkpoints export` writes it");
  }
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) throw refuse("", "a row is a JSON object");
  return raw as { readonly [field: string]: unknown };
}

function checkVersion(version: unknown, refuse: Refuse): void {
  if (!Number.isSafeInteger(version) || (version as number) < 1) throw refuse("version", `is ${version}, no version`);
  if ((version as number) > SCHEMA_VERSION) {
    throw new CheckpointError(
      "TR_STATE_NEWER",
      `the export has schema version ${version}, this version of tailrace reads up to ${SCHEMA_VERSION}; ` +
        "import it with the version that wrote it, or a newer one",
    );
  }
  if (version !== SCHEMA_VERSION) throw refuse("version", `is ${version}; only ${SCHEMA_VERSION} can be imported`);
}

function rowAt(raw: unknown, refuse: Refuse): Change {
  try {
    return checkRow(raw);
  } catch (error) {
    if (error instanceof RowProblem) throw refuse(error.field, error.message);
    throw error;
  }
}
