import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import type { SeededRandom } from "../testing/seeded-random.ts";
import { Generation } from "./generation.ts";
import type { Measure } from "./growth.ts";
import { HeapProbe } from "./heap-probe.ts";
import type { FamilyOptions, LogFamily } from "./log-family.ts";
import { passing } from "./passing.ts";
import { ROTATION_KINDS, type RotationKind } from "./rotation-kind.ts";
import type { Subject } from "./subject.ts";
import { toToml } from "./toml-writer.ts";
import { Trial, type TrialResult } from "./trial.ts";

export interface SoakOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly folder: string;
  /** bin/tailrace.js of the build to soak. */
  readonly bin: string;
}

export interface SoakResult {
  readonly trial: TrialResult;
  readonly measures: readonly Measure[];
  /** What was done, and how often. */
  readonly counts: ReadonlyMap<SoakCount, number>;
}

export type SoakCount = "rotations" | "names" | "reloads" | "scrapes" | "taps" | "commands" | "outages";

const LOGS = 30;
/** Short-lived names are a family of their own, in no order. */
const SHORT = "Z";
const KINDS: readonly RotationKind[] = ["rename_create", "rename_compress_older", "copytruncate", "rename_compress"];
const MIB = 1 << 20;

/**
 * A week of an agent that is well, hurried: logs that rotate, names that live for seconds, sinks that are away, reloads,
 * scrapes and people who ask. Nothing may be lost or come twice, and nothing may grow with any of it.
 */
export class Soak {
  readonly trial: Trial;
  readonly counts = new Map<SoakCount, number>();
  readonly #options: SoakOptions;
  readonly #socket: string;
  readonly #config: string;
  readonly #measures = {
    rss: measure("resident memory", "MiB", { noise: 6, perFile: 0.0005 }),
    heap: measure("heap after a collection", "MiB", { noise: 1, perFile: 0.0005 }),
    descriptors: measure("open descriptors", "", { noise: 3 }),
    watches: measure("inotify watches", "", { noise: 2 }),
    rows: measure("rows of /metrics", "", { noise: 5 }),
    store: measure("checkpoint store", "KiB", { noise: 64, perFile: 1 }),
  };
  #probe: HeapProbe | undefined;
  #reloaded = 0;

  constructor(options: SoakOptions) {
    this.#options = options;
    this.#socket = join(options.folder, "api.sock");
    this.#config = join(options.folder, "tailrace.toml");
    this.trial = new Trial(this.#subject(), { ...options, linesAtOnce: 2 });
  }

  async run(): Promise<SoakResult> {
    const { trial } = this;
    trial.ledger.beginGeneration(new Generation(SHORT, 0));
    const result = await trial.run(async () => {
      const doings = [
        this.#rotate,
        this.#shortNames,
        this.#outages,
        this.#reload,
        this.#scrape,
        this.#tap,
        this.#ask,
        this.#look,
      ];
      await Promise.all(doings.map((doing) => doing.call(this, trial.random.fork())));
      this.#probe?.close();
    });
    return { trial: result, measures: Object.values(this.#measures), counts: this.counts };
  }

  #subject(): Subject {
    const { folder } = this.#options;
    const logs = join(folder, "logs0");
    const families = Array.from({ length: LOGS }, (_, index): FamilyOptions => {
      const letter = "ABCDEFGHIJKLMNOPQRSTUVWXY"[index % 25]!;
      const name = index < 25 ? letter : `${letter}a`;
      return {
        name,
        path: join(logs, `${name.toLowerCase()}.log`),
        append: index % 5 !== 4,
        naming: index % 4 === 3 ? "dates" : "numbers",
        keep: 3,
        compress: true,
      };
    });
    const output = join(folder, "out", "collected.ndjson");
    mkdirSync(join(folder, "out"), { recursive: true });
    mkdirSync(join(folder, "short"), { recursive: true });
    return {
      name: "tailrace",
      families,
      sinks: [
        { name: "file", isExact: true, path: output },
        { name: "http", isExact: false },
      ],
      without: new Set(),
      reachMs: 60_000,
      notes: [],
      tellsGaps: true,
      command: (baseUrl) => {
        this.#baseUrl = baseUrl;
        this.#configure(262_144);
        return {
          argv: [
            process.execPath,
            "--inspect=127.0.0.1:0",
            this.#options.bin,
            "run",
            "-c",
            this.#config,
            "--log-format",
            "json",
          ],
          cwd: folder,
          logPath: join(folder, "agent.log"),
          readyText: "memory ceiling",
        };
      },
    };
  }

  #baseUrl = "";

  #configure(batchBytes: number): void {
    const { folder } = this.#options;
    const config = {
      state_dir: join(folder, "state"),
      api: { address: `unix:${this.#socket}` },
      sources: {
        logs: {
          type: "file",
          include: [join(folder, "logs0", "*.log"), join(folder, "short", "*.log")],
          scan_interval_ms: 250,
          rotate_wait_ms: 1_000,
          max_batch_bytes: batchBytes,
        },
      },
      sinks: {
        file: { type: "file", inputs: ["logs"], path: join(folder, "out", "collected.ndjson") },
        http: {
          type: "http",
          inputs: ["logs"],
          url: `${this.#baseUrl}/http`,
          timeout_ms: 2_000,
          retry: { initial_ms: 50, max_ms: 500 },
        },
      },
    };
    writeFileSync(this.#config, toToml(config));
  }

  #count(what: SoakCount): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  /** Each log by a kind of its own, each 2 to 30 s. */
  async #rotate(random: SeededRandom): Promise<void> {
    const surroundings = this.trial.surroundings(random.fork());
    const one = async (family: LogFamily, kind: RotationKind, everyMs: number, offsetMs: number) => {
      await this.#wait(offsetMs);
      while (this.trial.isGoing) {
        family.isBusy = true;
        try {
          if (await ROTATION_KINDS[kind](family, surroundings)) {
            this.#count("rotations");
            this.trial.did(kind);
          }
        } catch (error) {
          this.trial.failed(`${kind} of ${family.name} failed: ${(error as Error).stack}`);
        }
        family.isBusy = false;
        await this.#wait(everyMs);
      }
    };
    await Promise.all(
      this.trial.families.map((family, index) =>
        one(family, KINDS[index % KINDS.length]!, random.int(2_000, 30_000), random.int(0, 5_000)),
      ),
    );
  }

  /** Names that are never used again: written, and gone as soon as all is delivered. */
  async #shortNames(random: SeededRandom): Promise<void> {
    const { ledger } = this.trial;
    const one = async (generation: Generation, path: string) => {
      let at = 0;
      for (let piece = random.int(1, 3); piece > 0; piece -= 1) {
        let text = "";
        for (let count = random.int(1, 20); count > 0; count -= 1)
          text += `${ledger.write(generation, at + text.length, true)}\n`;
        writeFileSync(path, text, { flag: "a" });
        at += text.length;
        await passing(random.int(50, 500));
      }
      generation.endedAtMs = Date.now();
      generation.tell(`${path} is written, ${at} bytes`);
      const isThere = () => ledger.sinks.every((sink) => ledger.has(sink, generation));
      while (this.trial.isGoing && !isThere()) await passing(200);
      await passing(1_000);
      if (!isThere()) return;
      generation.tell(`${path} is deleted`);
      rmSync(path);
    };
    const running = new Set<Promise<void>>();
    for (let number = 1; this.trial.isGoing; number += 1) {
      const generation = new Generation(SHORT, number);
      const path = join(this.#options.folder, "short", `task-${number}-${random.hex(4)}.log`);
      ledger.beginGeneration(generation);
      generation.names.add(path);
      this.#count("names");
      const done = one(generation, path).finally(() => running.delete(done));
      running.add(done);
      await this.#wait(random.int(200, 800));
    }
    await Promise.all(running);
  }

  async #outages(random: SeededRandom): Promise<void> {
    while (this.trial.isGoing) {
      await this.#wait(random.int(5_000, 20_000));
      if (!this.trial.isGoing) return;
      const mood = random.pick(["away", "refusing", "slow", "throttling"] as const);
      this.#count("outages");
      this.trial.happened(`the receiver is ${mood}`);
      await this.trial.receiver.feel(mood);
      await this.#wait(random.int(2_000, 12_000));
      await this.trial.receiver.feel("well");
    }
  }

  /** SIGHUP, each other time with a difference. */
  async #reload(random: SeededRandom): Promise<void> {
    for (let number = 1; this.trial.isGoing; number += 1) {
      await this.#wait(random.int(5_000, 12_000));
      if (!this.trial.isGoing) return;
      if (number % 2 === 0) this.#configure(number % 4 === 0 ? 262_144 : 131_072);
      this.#count("reloads");
      this.trial.happened(`SIGHUP, ${number % 2 === 0 ? "a difference" : "no difference"}`);
      this.trial.agent.signal("SIGHUP");
      const want = this.#reloaded + 1;
      const isDone = () => this.trial.events.filter(({ event }) => event === "reload").length >= want;
      const limitMs = Date.now() + 60_000;
      while (!this.trial.isAborted && !isDone() && Date.now() < limitMs) await passing(100);
      if (!isDone()) this.trial.failed(`a reload had no effect within 60 s (the ${number}th)`);
      this.#reloaded = this.trial.events.filter(({ event }) => event === "reload").length;
    }
  }

  async #scrape(): Promise<void> {
    while (this.trial.isGoing) {
      await this.#wait(1_000);
      const text = await this.#get("/metrics");
      if (text === undefined) continue;
      this.#count("scrapes");
      const rows = text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
      this.#measures.rows.points.push([this.trial.seconds, rows]);
    }
  }

  async #tap(random: SeededRandom): Promise<void> {
    while (this.trial.isGoing) {
      await this.#wait(random.int(4_000, 9_000));
      if (!this.trial.isGoing) return;
      this.#count("taps");
      await this.#command("tap", random.pick(["logs", "file", "http"]), "--limit", "20");
    }
  }

  async #ask(random: SeededRandom): Promise<void> {
    while (this.trial.isGoing) {
      await this.#wait(random.int(2_000, 5_000));
      if (!this.trial.isGoing) return;
      this.#count("commands");
      const question = random.pick(["why", "audit", "checkpoints"] as const);
      const path = random.pick(this.trial.families).path;
      if (question === "why") await this.#command("why", path);
      else if (question === "audit") await this.#command("audit");
      else await this.#command("checkpoints", "list");
    }
  }

  /** A command of the program against the running agent; its failure is a trouble. */
  async #command(...args: readonly string[]): Promise<void> {
    const child = spawn(process.execPath, [this.#options.bin, ...args, "-c", this.#config], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
    const [code] = (await once(child, "close")) as [number | null];
    clearTimeout(timer);
    // A tap that waits for records while a sink is away is ended by us.
    if (code !== 0 && !(args[0] === "tap" && code === null))
      this.trial.failed(`${args.join(" ")} ended with ${code}: ${stderr.trim().slice(0, 300)}`);
  }

  /** Looks at the process from outside, and at its heap after a collection. */
  async #look(): Promise<void> {
    const { agent } = this.trial;
    for (let number = 0; this.trial.isGoing; number += 1) {
      await this.#wait(2_000);
      const { seconds } = this.trial;
      const folder = `/proc/${agent.pid}`;
      try {
        const status = readFileSync(`${folder}/status`, "utf8");
        this.#measures.rss.points.push([seconds, Number(/^VmRSS:\s+(\d+)/m.exec(status)![1]) / 1024]);
        const descriptors = readdirSync(`${folder}/fd`);
        this.#measures.descriptors.points.push([seconds, descriptors.length]);
        this.#measures.watches.points.push([seconds, watchesOf(folder, descriptors)]);
        const { size } = statSync(join(this.#options.folder, "state", "checkpoints", "data.mdb"));
        this.#measures.store.points.push([seconds, size / 1024]);
      } catch (error) {
        if (this.trial.isGoing && agent.isUp) this.trial.failed(`the process cannot be looked at: ${error}`);
        continue;
      }
      if (number % 4 === 0) await this.#lookAtHeap();
    }
  }

  async #lookAtHeap(): Promise<void> {
    if (this.#probe === undefined) {
      const log = readFileSync(join(this.#options.folder, "agent.log"), "utf8");
      const url = /Debugger listening on (ws:\S+)/.exec(log)?.[1];
      if (url === undefined) return;
      this.#probe = await HeapProbe.open(url);
    }
    this.#measures.heap.points.push([this.trial.seconds, (await this.#probe.usedBytes()) / MIB]);
  }

  #get(path: string): Promise<string | undefined> {
    return new Promise((resolve) => {
      const asked = request({ socketPath: this.#socket, path, timeout: 10_000 }, (answer) => {
        let text = "";
        answer
          .setEncoding("utf8")
          .on("data", (part: string) => {
            text += part;
          })
          .on("end", () => resolve(text));
      });
      asked.on("error", () => resolve(undefined));
      asked.on("timeout", () => asked.destroy());
      asked.end();
    });
  }

  /** So long, or until the run is over. */
  async #wait(ms: number): Promise<void> {
    const endMs = Date.now() + ms;
    while (this.trial.isGoing && Date.now() < endMs) await passing(Math.min(100, endMs - Date.now()));
  }
}

function measure(name: string, unit: string, limits: { noise: number; perFile?: number }): Measure {
  return { name, unit, noise: limits.noise, perFile: limits.perFile ?? 0, points: [] };
}

function watchesOf(folder: string, descriptors: readonly string[]): number {
  let watches = 0;
  for (const descriptor of descriptors)
    try {
      watches += readFileSync(`${folder}/fdinfo/${descriptor}`, "utf8").match(/^inotify wd:/gm)?.length ?? 0;
    } catch {
      // Closed meanwhile.
    }
  return watches;
}
