import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FamilyOptions } from "./log-family.ts";
import type { Subject } from "./subject.ts";
import { toToml } from "./toml-writer.ts";

const LOGS = 30;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXY";
/** What a reload changes, and changes back. */
const BATCH_BYTES = [262_144, 131_072] as const;

/** The agent of a soak: thirty logs and a folder of short-lived names, a file sink and an http sink, an API on a socket. */
export class SoakSubject implements Subject {
  readonly name = "tailrace";
  readonly without = new Set<never>();
  readonly reachMs = 60_000;
  readonly notes = [];
  readonly tellsGaps = true;
  readonly families: readonly FamilyOptions[];
  readonly sinks: Subject["sinks"];
  readonly configPath: string;
  readonly socketPath: string;
  readonly shortFolder: string;
  readonly logPath: string;
  readonly storePath: string;
  readonly #folder: string;
  readonly #bin: string;
  #baseUrl = "";

  constructor(folder: string, bin: string) {
    this.#folder = folder;
    this.#bin = bin;
    this.configPath = join(folder, "tailrace.toml");
    this.socketPath = join(folder, "api.sock");
    this.shortFolder = join(folder, "short");
    this.logPath = join(folder, "agent.log");
    this.storePath = join(folder, "state", "checkpoints", "data.mdb");
    for (const path of [this.shortFolder, join(folder, "out")]) mkdirSync(path, { recursive: true });
    this.families = Array.from({ length: LOGS }, (_, index) => familyOptions(index, join(folder, "logs0")));
    this.sinks = [
      { name: "file", isExact: true, path: join(folder, "out", "collected.ndjson") },
      { name: "http", isExact: false },
    ];
  }

  command(baseUrl: string) {
    this.#baseUrl = baseUrl;
    this.configure(0);
    const flags = ["run", "-c", this.configPath, "--log-format", "json"];
    return {
      // The inspector gives the heap after a collection.
      argv: [process.execPath, "--inspect=127.0.0.1:0", this.#bin, ...flags] as const,
      cwd: this.#folder,
      logPath: this.logPath,
      readyText: "memory ceiling",
    };
  }

  /** The arguments that run a command of the program against this agent. */
  commandLine(args: readonly string[]): string[] {
    return [this.#bin, ...args, "-c", this.configPath];
  }

  /** Writes the configuration; one variant differs from the other in an option of the source. */
  configure(variant: 0 | 1): void {
    const config = {
      state_dir: join(this.#folder, "state"),
      api: { address: `unix:${this.socketPath}` },
      sources: {
        logs: {
          type: "file",
          include: [join(this.#folder, "logs0", "*.log"), join(this.shortFolder, "*.log")],
          scan_interval_ms: 250,
          rotate_wait_ms: 1_000,
          max_batch_bytes: BATCH_BYTES[variant],
        },
      },
      sinks: {
        file: { type: "file", inputs: ["logs"], path: this.sinks[0]!.path },
        http: {
          type: "http",
          inputs: ["logs"],
          url: `${this.#baseUrl}/http`,
          timeout_ms: 2_000,
          retry: { initial_ms: 50, max_ms: 500 },
        },
      },
    };
    writeFileSync(this.configPath, toToml(config));
  }
}

function familyOptions(index: number, folder: string): FamilyOptions {
  const name = `${LETTERS[index % LETTERS.length]}${index < LETTERS.length ? "" : "a"}`;
  return {
    name,
    path: join(folder, `${name.toLowerCase()}.log`),
    append: index % 5 !== 4,
    naming: index % 4 === 3 ? "dates" : "numbers",
    keep: 3,
    compress: true,
  };
}
