import { createRequire } from "node:module";

/** The version of this package. */
export function packageVersion(): string {
  // From src/agent as from dist/agent, the package is two folders up.
  return (createRequire(import.meta.url)("../../package.json") as { version: string }).version;
}
