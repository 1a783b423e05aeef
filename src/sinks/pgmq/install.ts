import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { ConfigError, toError } from "../../errors.ts";
import type { PgSession } from "../../postgres/session.ts";

/** Its SQL (PostgreSQL licence) lies in this package, an optional peer. */
const PACKAGE = "@electric-sql/pglite-pgmq";

/** Any number will do as long as it is always the same. */
const INSTALL_LOCK = 7_717_002;

/**
 * Makes PGMQ: the extension where the server has it, else its plain SQL, in the transaction that is open.
 * @throws ConfigError: neither the extension nor the package is installed. PgFailure: not allowed.
 */
export async function installPgmq(session: PgSession): Promise<void> {
  await session.query("SELECT pg_advisory_xact_lock($1)", [INSTALL_LOCK]);
  const { rows } = await session.query(
    "SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'pgmq'), to_regclass('pgmq.meta') IS NOT NULL",
  );
  const [isAvailable, isThere] = rows[0]!;
  // Somebody else was quicker.
  if (isThere === "t") return;
  await session.batch([isAvailable === "t" ? "CREATE EXTENSION pgmq" : await plainSql()]);
}

async function plainSql(): Promise<string> {
  let archive: Buffer;
  try {
    const entry = createRequire(import.meta.url).resolve(PACKAGE);
    archive = await promisify(gunzip)(await readFile(join(dirname(entry), "pgmq.tar.gz")));
  } catch (thrown) {
    throw new ConfigError([
      {
        message: `the server has no extension "pgmq", and its plain SQL cannot be read (${toError(thrown).message.split("\n")[0]}): npm install ${PACKAGE}, or install the extension`,
      },
    ]);
  }
  const scripts = [...filesIn(archive)].filter(({ name }) => /(?:^|\/)pgmq--[\d.]+\.sql$/.test(name));
  const [script] = scripts;
  if (script === undefined)
    throw new ConfigError([{ message: `${PACKAGE} holds no SQL of PGMQ; install another version` }]);
  return script.content.toString();
}

/**
 * The files of a tar archive (POSIX.1-2001, pax, "ustar Interchange Format"), blocks of 512 bytes:
 *
 * | bytes   | field |
 * |---------|-------|
 * | 0..99   | name, ends at the first NUL |
 * | 124..135| size of the content in octal digits |
 * | 156     | type: `0` or NUL for a file |
 *
 * A block of zeros is the end.
 */
function* filesIn(archive: Buffer): Generator<{ readonly name: string; readonly content: Buffer }> {
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const header = archive.subarray(at, at + 512);
    const nameEnd = header.indexOf(0);
    const size = Number.parseInt(header.toString("latin1", 124, 135), 8) || 0;
    const type = header[156];
    if (type === 0x30 || type === 0)
      yield {
        name: header.toString("latin1", 0, Math.min(nameEnd < 0 ? 100 : nameEnd, 100)),
        content: archive.subarray(at + 512, at + 512 + size),
      };
    at += 512 + Math.ceil(size / 512) * 512;
  }
}
