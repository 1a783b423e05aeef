import { ConfigError, errnoOf } from "../errors.ts";

/**
 * The package of Postgres is an optional peer: loaded when a configuration names it.
 * @throws ConfigError with the install line where it is missing.
 */
export async function loadPg(): Promise<{ readonly Client: typeof import("pg").Client }> {
  const { default: pg } = await peer("pg", () => import("pg"));
  return pg;
}

export async function peer<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if (errnoOf(error) !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new ConfigError([{ message: `Postgres needs a package that is not installed: npm install ${name}` }]);
  }
}
