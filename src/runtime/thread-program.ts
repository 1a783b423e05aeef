import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker, type WorkerOptions } from "node:worker_threads";

/** Built, this lies in another folder of the same depth (scripts/build.mjs, which must know the program by its name). */
const IS_SOURCE = import.meta.url.endsWith(".ts");

/**
 * A thread that runs a module of this package.
 * @param program its path below `src`, without the ending
 */
export function startThreadProgram(program: string, options: WorkerOptions): Worker {
  const path = fileURLToPath(new URL(`../${program}.${IS_SOURCE ? "ts" : "js"}`, import.meta.url));
  return new Worker(IS_SOURCE ? loaderOf(path) : path, { ...options, eval: IS_SOURCE });
}

/** Run from its source (tests), a thread needs a loader for TypeScript, which Node 20 has none of; what that makes is kept. */
function loaderOf(path: string): string {
  const loader = createRequire(import.meta.url).resolve("jiti");
  const cache = { fsCache: join(tmpdir(), "tailrace-source-cache") };
  return `require(${JSON.stringify(loader)}).createJiti(${JSON.stringify(path)}, ${JSON.stringify(cache)}).import(${JSON.stringify(path)});`;
}
