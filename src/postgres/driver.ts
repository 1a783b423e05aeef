import { ConfigError, errnoOf } from "../errors.ts";
import { embeddedFolder } from "./address.ts";

/**
 * Loads what the database at `url` will need, so that a missing package is told at the start and not as a trouble of the way.
 * @throws ConfigError with the install line.
 */
export async function loadDrivers(url: string): Promise<void> {
  await loadPg();
  if (embeddedFolder(url) !== undefined) await loadPglite();
}

export async function loadPglite() {
  const { PGlite } = await peer("@electric-sql/pglite", () => import("@electric-sql/pglite"));
  const { pgmq } = await peer("@electric-sql/pglite-pgmq", () => import("@electric-sql/pglite-pgmq"));
  return { PGlite, pgmq };
}

/**
 * The package of Postgres is an optional peer: loaded when a configuration names it.
 * @throws ConfigError with the install line where it is missing.
 */
export async function loadPg(): Promise<{ readonly Client: typeof import("pg").Client }> {
  const { default: pg } = await peer("pg", () => import("pg"));
  return pg;
}

async function peer<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if (errnoOf(error) !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new ConfigError([{ message: `Postgres needs a package that is not installed: npm install ${name}` }]);
  }
}
