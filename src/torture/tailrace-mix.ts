import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SeededRandom } from "../testing/seeded-random.ts";
import type { FamilyOptions } from "./log-family.ts";
import type { Ingredient, MixPlan } from "./mix.ts";

/** A plan of the chance mix for Tailrace itself, its configuration included. */
export function tailraceMix(options: {
  readonly seed: number;
  readonly seconds: number;
  readonly folder: string;
  /** bin/tailrace.js of the build to torture. */
  readonly bin: string;
  readonly port?: number;
  readonly flags?: readonly string[];
  readonly without?: ReadonlySet<Ingredient>;
  /** Families to run; default all. */
  readonly only?: string;
}): MixPlan {
  const { seed, seconds, folder, bin, port, flags = [], without = new Set<Ingredient>(), only = "ABCDE" } = options;
  const random = new SeededRandom(seed ^ 0x5eed);
  const rotateWaitMs = random.pick([300, 1_000, 5_000]);
  const scanMs = random.pick([50, 100, 250]);
  const keep = random.pick([5, 10, 20]);
  const logs = join(folder, "logs");
  const path = (name: string) => join(logs, name);
  const numbers = { append: true, naming: "numbers", keep } as const;
  mkdirSync(join(folder, "out"), { recursive: true });
  const output = join(folder, "out", "collected.ndjson");
  return {
    seed,
    seconds,
    folder,
    output,
    without,
    rotateEveryMs: 200,
    reachMs: 2 * rotateWaitMs + 6_000,
    ...(port === undefined ? {} : { port }),
    families: [
      { ...numbers, name: "A", path: path("a.log") },
      { ...numbers, name: "B", path: path("b.log") },
      // Without O_APPEND: a copytruncate leaves a hole.
      { ...numbers, name: "C", path: path("c.log"), append: false },
      // Every file in its folder matches, rotated and compressed ones too.
      { ...numbers, name: "D", path: path("all/d.log"), naming: "dates" },
      { ...numbers, name: "E", path: path("e.log"), naming: "symlink" },
    ].filter(({ name }) => only.includes(name)) as FamilyOptions[],
    command: (receiver) => {
      const config = join(folder, "tailrace.toml");
      writeFileSync(
        config,
        `# torture, seed ${seed}
state_dir = ${JSON.stringify(join(folder, "state"))}
[api]
enabled = false
[sources.app]
type = "file"
include = ${JSON.stringify([path("*.log"), path("all/**")])}
scan_interval_ms = ${scanMs}
rotate_wait_ms = ${rotateWaitMs}
[sinks.file]
type = "file"
inputs = ["app"]
path = ${JSON.stringify(output)}
[sinks.http]
type = "http"
inputs = ["app"]
url = "http://127.0.0.1:${receiver}/"
timeout_ms = 2000
retry = { initial_ms = 50, max_ms = 500 }
`,
      );
      return {
        argv: [process.execPath, bin, "run", "-c", config, "--log-format", "json", ...flags],
        cwd: folder,
        logPath: join(folder, "agent.log"),
        readyText: "memory ceiling",
      };
    },
  };
}
