import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { SeededRandom } from "../testing/seeded-random.ts";
import { type AgentEvent, AgentProcess } from "./agent-process.ts";
import { DISTURBANCES, type Scene } from "./disturbance.ts";
import type { FullDisk } from "./full-disk.ts";
import type { Happening } from "./generation.ts";
import type { JumpingClock } from "./jumping-clock.ts";
import { Ledger } from "./ledger.ts";
import { LogFamily } from "./log-family.ts";
import { type Mood, MoodyReceiver } from "./moody-receiver.ts";
import { linesIn } from "./numbered-line.ts";
import { OutputReader } from "./output-reader.ts";
import { passing } from "./passing.ts";
import { Reach } from "./reach.ts";
import type { Ingredient, Subject } from "./subject.ts";
import { judge, type Verdict } from "./verdict.ts";

export interface MixOptions {
  readonly seed: number;
  readonly seconds: number;
  /** A private folder, in which everything happens. */
  readonly folder: string;
  readonly disk?: FullDisk | undefined;
  readonly clock?: JumpingClock | undefined;
  readonly without?: ReadonlySet<Ingredient>;
  /** Port of the receiver; 0: any. */
  readonly port?: number;
}

/** One look at a run. */
export interface Sample {
  readonly seconds: number;
  readonly written: number;
  /** By sink, in their order. */
  readonly arrived: readonly number[];
}

export interface MixResult {
  readonly subject: Subject;
  readonly seed: number;
  readonly seconds: number;
  readonly verdict: Verdict;
  readonly ledger: Ledger;
  /** How often each thing was done. */
  readonly done: ReadonlyMap<Ingredient, number>;
  readonly happenings: readonly Happening[];
  readonly events: readonly AgentEvent[];
  readonly samples: readonly Sample[];
  readonly starts: number;
  readonly peakMiB: number;
  /** From the last disturbance until the last line came. */
  readonly settledMs: number;
  /** What went wrong with the agent, or with the torture itself. */
  readonly troubles: readonly string[];
  /** Everything was as promised. */
  readonly isRight: boolean;
}

const TICK_MS = 20;
const LOOK_MS = 100;
const ROTATE_EVERY_MS = 200;
/** Without a single new line for so long, what is missing will not come. */
const GIVE_UP_MS = 20_000;

/** The chance mix: one run over several logs and one agent, with sinks that are well beside others with moods. */
export class Mix {
  readonly ledger: Ledger;
  readonly happenings: Happening[] = [];
  readonly done = new Map<Ingredient, number>();
  readonly #subject: Subject;
  readonly #options: MixOptions;
  readonly #without: ReadonlySet<Ingredient>;
  readonly #random: SeededRandom;
  readonly #events: AgentEvent[] = [];
  readonly #samples: Sample[] = [];
  readonly #troubles: string[] = [];
  readonly #receiver: MoodyReceiver;
  readonly #outputs: readonly OutputReader[];
  readonly #families: LogFamily[] = [];
  #agent: AgentProcess | undefined;
  #reach: Reach | undefined;
  #startedMs = 0;
  #endMs = Number.POSITIVE_INFINITY;
  #isAborted = false;
  #peakMiB = 0;
  #ticks = 0;

  constructor(subject: Subject, options: MixOptions) {
    this.#subject = subject;
    this.#options = options;
    this.#without = new Set([...subject.without, ...(options.without ?? [])]);
    this.#random = new SeededRandom(options.seed);
    this.ledger = new Ledger(subject.sinks.map(({ name }) => name));
    this.#outputs = subject.sinks.flatMap(({ name, path }) =>
      path === undefined ? [] : [new OutputReader(path, name, this.ledger)],
    );
    this.#receiver = new MoodyReceiver((place, body) => this.#received(place, body), options.port ?? 0);
  }

  get subject(): Subject {
    return this.#subject;
  }

  get agentState(): string {
    if (this.#agent === undefined || !this.#agent.isUp) return "dead";
    return this.#agent.isAtWork ? "at work" : this.#agent.isStopped ? "stopped" : "starting";
  }

  get mood(): Mood {
    return this.#receiver.mood;
  }

  /** Seconds that disturbances still go on; 0 when what is missing is waited for. */
  get secondsLeft(): number {
    return Number.isFinite(this.#endMs) ? Math.max(0, (this.#endMs - Date.now()) / 1000) : this.#options.seconds;
  }

  /** Ends everything at once; `run` comes back soon. */
  async abort(): Promise<void> {
    this.#isAborted = true;
    await this.#agent?.kill();
    this.#receiver.stop();
  }

  async run(): Promise<MixResult> {
    this.#startedMs = Date.now();
    const { folder, seed, seconds } = this.#options;
    this.#makeLogs(folder);
    await this.#receiver.start();
    this.#agent = this.#makeAgent();
    this.#reach = new Reach(this.ledger, this.#families, this.#subject.reachMs, this.#agent);
    const writing = setInterval(() => this.#write(), TICK_MS);
    const looking = setInterval(() => this.#look(), LOOK_MS);
    let settledMs = 0;
    try {
      this.#startAgent();
      await this.#begin();
      this.#endMs = Date.now() + seconds * 1000;
      await this.#disturb();
      clearInterval(writing);
      for (const family of this.#families) {
        family.finishLine();
        family.unlink();
      }
      settledMs = await this.#settle();
      if (!this.#isAborted) await this.#endAgent();
    } finally {
      clearInterval(writing);
      clearInterval(looking);
      await this.abort();
      for (const family of this.#families) family.close();
    }
    const { sinks, tellsGaps } = this.#subject;
    const verdict = await judge(this.ledger, sinks, this.#events, tellsGaps);
    return {
      subject: this.#subject,
      seed,
      seconds: (Date.now() - this.#startedMs) / 1000,
      verdict,
      ledger: this.ledger,
      done: this.done,
      happenings: this.happenings,
      events: this.#events,
      samples: this.#samples,
      starts: this.#agent.starts,
      peakMiB: this.#peakMiB,
      settledMs,
      troubles: this.#troubles,
      isRight: verdict.isRight && this.#troubles.length === 0,
    };
  }

  #makeLogs(folder: string): void {
    for (const name of ["aside", "real"]) mkdirSync(join(folder, name), { recursive: true });
    for (const options of this.#subject.families) {
      mkdirSync(dirname(options.path), { recursive: true });
      this.#families.push(new LogFamily(options, this.ledger, this.#random.fork()));
    }
  }

  #makeAgent(): AgentProcess {
    const command = this.#subject.command(`http://127.0.0.1:${this.#receiver.port}`);
    const env = { ...command.env, ...this.#options.clock?.env };
    return new AgentProcess({ ...command, env }, (event) => this.#events.push(event));
  }

  async #disturb(): Promise<void> {
    const agent = this.#agent!;
    const reach = this.#reach!;
    const random = this.#random.fork();
    const { disk, clock, folder } = this.#options;
    const scene: Scene = {
      families: this.#families,
      agent,
      receiver: this.#receiver,
      disk: this.#without.has("disk") ? undefined : disk,
      clock: this.#without.has("clock") ? undefined : clock,
      without: this.#without,
      rotateEveryMs: ROTATE_EVERY_MS,
      surroundings: {
        asideFolder: join(folder, "aside"),
        moment: (maxMs = 20) => passing(random.int(0, maxMs)),
        allDelivered: (family) => reach.allDelivered(family),
        holds: (family) => reach.holds(family),
        heldByAgentOnly: (generation) => reach.heldByAgentOnly(generation),
      },
      isGoing: () => !this.#isAborted && Date.now() < this.#endMs,
      did: (what, text) => {
        this.done.set(what, (this.done.get(what) ?? 0) + 1);
        if (text !== undefined) this.#happened(text);
      },
      happened: (text) => this.#happened(text),
      failed: (text) => {
        if (!this.#isAborted) this.#troubles.push(text);
      },
      startAgent: () => this.#startAgent(),
      killAgent: async () => {
        await agent.kill();
        reach.died();
      },
    };
    await Promise.all(
      Object.entries(DISTURBANCES).map(async ([name, disturbance]) => {
        const own = this.#random.fork();
        if (!this.#without.has(name as Ingredient)) await disturbance(scene, own);
      }),
    );
    if (!this.#isAborted) await this.#receiver.feel("well");
  }

  #happened(what: string): void {
    this.happenings.push({ atMs: Date.now(), what });
    appendFileSync(join(this.#options.folder, "happenings.log"), `${new Date().toISOString()} ${what}\n`);
  }

  #startAgent(): void {
    if (this.#isAborted) return;
    this.#agent!.start();
    this.#happened(`the agent is started, process ${this.#agent!.pid}`);
  }

  async #endAgent(): Promise<void> {
    const code = await this.#agent!.end(GIVE_UP_MS);
    this.#happened(`SIGTERM; the agent ended with ${code}`);
    if (this.#subject.tellsGaps && code !== 0)
      this.#troubles.push(`after SIGTERM the agent ended with ${code ?? `a kill, after ${GIVE_UP_MS / 1000} s`}`);
  }

  #write(): void {
    for (const family of this.#families) {
      const { random } = family;
      if (random.chance(0.5)) family.write(random.chance(0.1) ? random.int(10, 60) : random.int(1, 8));
    }
  }

  #look(): void {
    for (const output of this.#outputs) output.read();
    const agent = this.#agent!;
    const isWell = agent.isAtWork && ["well", "slow"].includes(this.mood) && !this.#options.disk?.isFull;
    this.#reach!.tick(isWell);
    this.#ticks += 1;
    if (this.#ticks % 10 === 1) this.#sample();
    const code = agent.endedByItself;
    if (code === undefined || this.#isAborted) return;
    this.#happened(`the agent ended by itself with ${code}`);
    this.#reach!.died();
    const { disk } = this.#options;
    const isDisk = disk !== undefined && (disk.isFull || Date.now() - disk.freedAtMs < 3_000);
    // Who cannot write a byte may give up; whoever watches over it starts it again.
    if (!isDisk) this.#troubles.push(`the agent ended by itself with ${code} at ${new Date().toISOString()}`);
    this.#startAgent();
  }

  #sample(): void {
    const { ledger } = this;
    const seconds = (Date.now() - this.#startedMs) / 1000;
    this.#samples.push({ seconds, written: ledger.lines, arrived: ledger.sinks.map((sink) => ledger.arrived(sink)) });
    try {
      const status = readFileSync(`/proc/${this.#agent!.pid}/status`, "utf8");
      this.#peakMiB = Math.max(this.#peakMiB, Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024);
    } catch {
      // It is just dead, or this system has no /proc.
    }
  }

  #received(place: string, body: string): void {
    if (!this.ledger.sinks.includes(place)) return;
    for (const text of linesIn(body)) {
      const line = this.ledger.recognise(text);
      if (line !== undefined) this.ledger.count(place, line);
    }
  }

  /** What was rotated before an agent ever saw the log is nobody's: nothing is disturbed until each log is known. */
  async #begin(): Promise<void> {
    const limitMs = Date.now() + GIVE_UP_MS + this.#subject.reachMs;
    const isKnown = () =>
      this.#families.every(({ generation }) =>
        this.ledger.sinks.every((sink) => this.ledger.hasBegun(sink, generation)),
      );
    while (!this.#isAborted && Date.now() < limitMs && !isKnown()) await passing(50);
    if (!isKnown() && !this.#isAborted) this.#troubles.push("not every log was read after the first start");
    if (!this.#isAborted) await passing(1_000);
  }

  /** Everybody is well now: waits until all has come that can come; gives how long that took, milliseconds. */
  async #settle(): Promise<number> {
    if (this.#isAborted) return 0;
    this.#happened("nothing is disturbed any more");
    const startMs = Date.now();
    let before = -1;
    let changedMs = Date.now();
    while (!this.#isAborted && Date.now() - changedMs < GIVE_UP_MS && !this.#isAllThere()) {
      await passing(LOOK_MS);
      const now = this.ledger.sinks.reduce((sum, sink) => sum + this.ledger.arrived(sink), 0);
      if (now !== before) changedMs = Date.now();
      before = now;
    }
    const settledMs = Date.now() - startMs;
    // What comes twice comes late.
    if (!this.#isAborted) await passing(1_500);
    return settledMs;
  }

  #isAllThere(): boolean {
    return this.ledger.sinks.every((sink) =>
      this.ledger.families.every((family) =>
        this.ledger
          .generationsOf(family)
          .every((generation) => generation.destroyedAtMs !== undefined || this.ledger.has(sink, generation)),
      ),
    );
  }
}

/** Everything that is known of a run, beside what its folder holds already. */
export function keepEvidence(folder: string, { ledger }: MixResult): void {
  const stories = ledger.families.flatMap((family) =>
    ledger
      .generationsOf(family)
      .flatMap(({ number, story }) =>
        story.map(({ atMs, what }) => `${new Date(atMs).toISOString()} ${family} g${number} ${what}`),
      ),
  );
  writeFileSync(join(folder, "stories.log"), `${stories.sort().join("\n")}\n`);
}
