import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Where scripts/install-test-needs.sh puts it: a Python package, as the Node one is too large for every `npm ci`. */
const FOLDER = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "tailrace-tests", "duckdb");

/** Rows as JSON objects, each value as its text in SQL, so that no number loses a digit on the way. */
const PROGRAM = `
import duckdb, json, sys
duckdb.sql("SET TimeZone = 'UTC'")
rows = duckdb.sql("SELECT CAST(COLUMNS(*) AS VARCHAR) FROM (" + sys.stdin.read() + ")")
for row in rows.fetchall():
    print(json.dumps(dict(zip(rows.columns, row))))
`;

/** True if DuckDB is here; where not, tests are skipped, loudly, and in CI they fail. */
export function hasDuckdb(): boolean {
  if (existsSync(join(FOLDER, "duckdb"))) return true;
  if (process.env["CI"] === "true") throw new Error("CI must have DuckDB (scripts/install-test-needs.sh)");
  console.warn("SKIPPED: this needs DuckDB (scripts/install-test-needs.sh)");
  return false;
}

/** What a query gives: a row each, values as text, null as null. */
export function duckdb(sql: string): { readonly [column: string]: string | null }[] {
  const env = { ...process.env, PYTHONPATH: FOLDER };
  const { status, stdout, stderr } = spawnSync("python3", ["-c", PROGRAM], {
    input: sql,
    encoding: "utf8",
    env,
    maxBuffer: 256 * 1024 * 1024,
  });
  if (status !== 0) throw new Error(`DuckDB: ${stderr}`);
  return stdout
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as { [column: string]: string | null });
}
