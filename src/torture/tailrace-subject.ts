import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SeededRandom } from "../testing/seeded-random.ts";
import type { FamilyOptions } from "./log-family.ts";
import type { Subject } from "./subject.ts";
import { toToml } from "./toml-writer.ts";

type Options = { readonly [key: string]: unknown };

/** What of a user's configuration is tried out. */
export interface TakenOver {
  /** Whole sections such as `checkpoint`. */
  readonly sections: Options;
  /** Options of file sources; one at least. */
  readonly sources: readonly Options[];
  /** Options of file sinks, by name. */
  readonly files: ReadonlyMap<string, Options>;
  /** Options of HTTP sinks, by name. */
  readonly https: ReadonlyMap<string, Options>;
  readonly notes: readonly string[];
}

/** The settings of a run that is given no configuration: what is drawn from the seed differs from run to run. */
export function drawnSettings(seed: number): TakenOver {
  const random = new SeededRandom(seed ^ 0x5eed);
  const source = {
    scan_interval_ms: random.pick([50, 100, 250]),
    rotate_wait_ms: random.pick([300, 1_000, 5_000]),
  };
  return {
    sections: {},
    sources: [source],
    files: new Map([["file", {}]]),
    https: new Map([["http", { timeout_ms: 2_000, retry: { initial_ms: 50, max_ms: 500 } }]]),
    notes: [`settings drawn from the seed: ${JSON.stringify(source)}`],
  };
}

/** Tailrace itself, in a folder of its own. */
export function tailraceSubject(options: {
  readonly seed: number;
  readonly folder: string;
  /** Where the state directory is: a disk of its own, or the folder. */
  readonly stateDisk: string;
  /** Where the outputs are. */
  readonly outputDisk: string;
  /** bin/tailrace.js of the build to torture. */
  readonly bin: string;
  readonly settings: TakenOver;
  /** Letters of the families to run. */
  readonly only?: string;
}): Subject {
  const { seed, folder, stateDisk, outputDisk, bin, settings, only = "ABCDEFGHIJKLMN" } = options;
  const keep = new SeededRandom(seed ^ 0xcafe).pick([5, 10, 20]);
  const sources = settings.sources.map((source, index) => familiesOf(index, folder, keep, source));
  const outputs = join(outputDisk, "out");
  mkdirSync(outputs, { recursive: true });
  const waitMs = Math.max(...settings.sources.map(({ rotate_wait_ms: ms }) => numberOr(ms, 5_000)));
  const scanMs = Math.max(...settings.sources.map(({ scan_interval_ms: ms }) => numberOr(ms, 1_000)));
  const sinks = [
    ...[...settings.files.keys()].map((name) => ({ name, isExact: true, path: join(outputs, `${name}.out`) })),
    ...[...settings.https.keys()].map((name) => ({ name, isExact: false })),
  ];
  return {
    name: "tailrace",
    families: sources.flatMap(({ families }) => families).filter(({ name }) => only.includes(name)),
    sinks,
    without: new Set(),
    reachMs: 2 * waitMs + 4 * scanMs + 6_000,
    notes: settings.notes,
    tellsGaps: true,
    command: (baseUrl) => {
      const path = join(folder, "tailrace.toml");
      const inputs = sources.map((_, index) => `logs${index}`);
      const config = {
        ...settings.sections,
        state_dir: join(stateDisk, "state"),
        api: { enabled: false },
        sources: Object.fromEntries(
          settings.sources.map((source, index) => [
            `logs${index}`,
            { ...source, type: "file", include: sources[index]!.include },
          ]),
        ),
        sinks: Object.fromEntries([
          ...sinks
            .filter(({ isExact }) => isExact)
            .map(({ name }) => [
              name,
              { ...settings.files.get(name), type: "file", inputs, path: join(outputs, `${name}.out`) },
            ]),
          ...sinks
            .filter(({ isExact }) => !isExact)
            .map(({ name }) => [
              name,
              { ...settings.https.get(name), type: "http", inputs, url: `${baseUrl}/${name}` },
            ]),
        ]),
      };
      writeFileSync(path, `# tailrace torture, seed ${seed}\n${toToml(config)}`);
      return {
        argv: [process.execPath, bin, "run", "-c", path, "--log-format", "json"],
        cwd: folder,
        logPath: join(folder, "agent.log"),
        readyText: "memory ceiling",
      };
    },
  };
}

/** The logs of a source: all kinds of the first, two of each further one. */
function familiesOf(
  index: number,
  folder: string,
  keep: number,
  source: Options,
): { readonly include: readonly string[]; readonly families: readonly FamilyOptions[] } {
  const logs = join(folder, `logs${index}`);
  const path = (name: string) => join(logs, name);
  const compress = source["archives"] !== false;
  const numbers = { append: true, naming: "numbers", keep, compress } as const;
  if (index > 0) {
    const letters = "FGHIJKLMN".slice(2 * index - 2);
    return {
      include: [path("*.log")],
      families: [
        { ...numbers, name: letters[0]!, path: path("a.log") },
        { ...numbers, name: letters[1]!, path: path("b.log"), append: false },
      ],
    };
  }
  return {
    include: [path("*.log"), path("all/**")],
    families: [
      { ...numbers, name: "A", path: path("a.log") },
      { ...numbers, name: "B", path: path("b.log") },
      // Without O_APPEND: a copytruncate leaves a hole.
      { ...numbers, name: "C", path: path("c.log"), append: false },
      // Every file in its folder matches, rotated and compressed ones too.
      { ...numbers, name: "D", path: path("all/d.log"), naming: "dates" },
      { ...numbers, name: "E", path: path("e.log"), naming: "symlink" },
    ],
  };
}

function numberOr(value: unknown, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}
