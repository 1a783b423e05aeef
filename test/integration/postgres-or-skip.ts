import { beforeEach } from "vitest";
import { orSkip } from "../crash/machine.ts";
import { hasPostgres } from "../servers/postgres.ts";

/** In a `describe`: its tests need a PostgreSQL to start; where there is none they are skipped, and in CI they fail. */
export function postgresOrSkip(): void {
  beforeEach((context) => void orSkip(context, hasPostgres() ? true : undefined, "PostgreSQL (Debian: postgresql)"));
}
