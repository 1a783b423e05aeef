import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import type { SeededRandom } from "../testing/seeded-random.ts";
import { Generation } from "./generation.ts";
import type { Measure } from "./growth.ts";
import type { LogFamily } from "./log-family.ts";
import { passing } from "./passing.ts";
import { ProcessWatch } from "./process-watch.ts";
import { ROTATION_KINDS, type RotationKind } from "./rotation-kind.ts";
import { SoakSubject } from "./soak-subject.ts";
import { Trial, type TrialResult } from "./trial.ts";

interface SoakOptions {
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

/** Short-lived names are a family of their own, in no order. */
const SHORT = "Z";
const KINDS: readonly RotationKind[] = ["rename_create", "rename_compress_older", "copytruncate", "rename_compress"];

/**
 * A week of an agent that is well, hurried: logs that rotate, names that live for seconds, sinks that are away, reloads,
 * scrapes and people who ask. Nothing may be lost or come twice, and nothing may grow with any of it.
 */
export class Soak {
  readonly trial: Trial;
  readonly counts = new Map<SoakCount, number>();
  readonly #subject: SoakSubject;
  readonly #watch: ProcessWatch;
  #reloaded = 0;

  constructor(options: SoakOptions) {
    this.#subject = new SoakSubject(options.folder, options.bin);
    this.#watch = new ProcessWatch(this.#subject.logPath, this.#subject.storePath);
    this.trial = new Trial(this.#subject, { ...options, linesAtOnce: 2 });
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
      this.#watch.close();
    });
    return { trial: result, measures: Object.values(this.#watch.measures), counts: this.counts };
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
      const path = join(this.#subject.shortFolder, `task-${number}-${random.hex(4)}.log`);
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
      if (number % 2 === 0) this.#subject.configure(number % 4 === 0 ? 0 : 1);
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
      this.#watch.scraped(text, this.trial.seconds);
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
    const child = spawn(process.execPath, this.#subject.commandLine(args), {
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

  async #look(): Promise<void> {
    for (let number = 0; this.trial.isGoing; number += 1) {
      await this.#wait(2_000);
      const { seconds, agent } = this.trial;
      try {
        this.#watch.look(agent.pid, seconds);
        if (number % 4 === 0) await this.#watch.lookAtHeap(seconds);
      } catch (error) {
        if (this.trial.isGoing && agent.isUp) this.trial.failed(`the process cannot be looked at: ${error}`);
      }
    }
  }

  #get(path: string): Promise<string | undefined> {
    return new Promise((resolve) => {
      const asked = request({ socketPath: this.#subject.socketPath, path, timeout: 10_000 }, (answer) => {
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
