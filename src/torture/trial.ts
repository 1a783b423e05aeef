import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { SeededRandom } from "../testing/seeded-random.ts";
import { type AgentEvent, AgentProcess } from "./agent-process.ts";
import type { FullDisk } from "./full-disk.ts";
import type { Happening } from "./generation.ts";
import type { JumpingClock } from "./jumping-clock.ts";
import { Ledger } from "./ledger.ts";
import { LogFamily } from "./log-family.ts";
import { MoodyReceiver } from "./moody-receiver.ts";
import { linesIn } from "./numbered-line.ts";
import { OutputReader } from "./output-reader.ts";
import { passing } from "./passing.ts";
import { Reach } from "./reach.ts";
import type { Surroundings } from "./rotation-kind.ts";
import type { Ingredient, Subject } from "./subject.ts";
import { judge, type Verdict } from "./verdict.ts";

export interface TrialOptions {
  readonly seed: number;
  /** A private folder, in which everything happens. */
  readonly folder: string;
  /** Length of the disturbed part, seconds. */
  readonly seconds: number;
  readonly disk?: FullDisk | undefined;
  readonly clock?: JumpingClock | undefined;
  /** Lines that a log gets at a time: drawn up to this. */
  readonly linesAtOnce?: number;
  /** Port of the receiver; 0: any. */
  readonly port?: number;
}

/** One look at a run. */
interface Sample {
  readonly seconds: number;
  readonly written: number;
  /** By sink, in their order. */
  readonly arrived: readonly number[];
}

export interface TrialResult {
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
/** Without a single new line for so long, what is missing will not come. */
const GIVE_UP_MS = 20_000;

/** One agent with its logs and its sinks, all of which is written down; what is done to them, others decide. */
export class Trial {
  readonly subject: Subject;
  readonly options: TrialOptions;
  readonly random: SeededRandom;
  readonly ledger: Ledger;
  readonly families: LogFamily[] = [];
  readonly receiver: MoodyReceiver;
  readonly happenings: Happening[] = [];
  readonly events: AgentEvent[] = [];
  readonly done = new Map<Ingredient, number>();
  readonly #samples: Sample[] = [];
  readonly #troubles: string[] = [];
  readonly #outputs: readonly OutputReader[];
  #agent: AgentProcess | undefined;
  #reach: Reach | undefined;
  #startedMs = 0;
  #endMs = Number.POSITIVE_INFINITY;
  #isAborted = false;
  #peakMiB = 0;
  #ticks = 0;

  constructor(subject: Subject, options: TrialOptions) {
    this.subject = subject;
    this.options = options;
    this.random = new SeededRandom(options.seed);
    this.ledger = new Ledger(subject.sinks.map(({ name }) => name));
    this.#outputs = subject.sinks.flatMap(({ name, path }) =>
      path === undefined ? [] : [new OutputReader(path, name, this.ledger)],
    );
    this.receiver = new MoodyReceiver((place, body) => this.#received(place, body), options.port ?? 0);
  }

  get agent(): AgentProcess {
    return this.#agent!;
  }

  get reach(): Reach {
    return this.#reach!;
  }

  get isAborted(): boolean {
    return this.#isAborted;
  }

  get agentState(): string {
    if (this.#agent === undefined || !this.#agent.isUp) return "dead";
    return this.#agent.isAtWork ? "at work" : this.#agent.isStopped ? "stopped" : "starting";
  }

  /** Since the start. */
  get seconds(): number {
    return (Date.now() - this.#startedMs) / 1000;
  }

  /** That disturbances still go on; 0 when what is missing is waited for. */
  get secondsLeft(): number {
    return Number.isFinite(this.#endMs) ? Math.max(0, (this.#endMs - Date.now()) / 1000) : this.options.seconds;
  }

  get isGoing(): boolean {
    return !this.#isAborted && Date.now() < this.#endMs;
  }

  /** Ends everything at once; `run` comes back soon. */
  async abort(): Promise<void> {
    this.#isAborted = true;
    await this.#agent?.kill();
    this.receiver.stop();
  }

  /** The whole of it; `disturb` does its worst until `isGoing` is false. */
  async run(disturb: () => Promise<void>): Promise<TrialResult> {
    this.#startedMs = Date.now();
    const { folder, seed, seconds } = this.options;
    this.#makeLogs(folder);
    await this.receiver.start();
    this.#agent = this.#makeAgent();
    this.#reach = new Reach(this.ledger, this.families, this.subject.reachMs, this.#agent);
    const writing = setInterval(() => this.#write(), TICK_MS);
    const looking = setInterval(() => this.#look(), LOOK_MS);
    let settledMs = 0;
    try {
      this.startAgent();
      await this.#begin();
      this.#endMs = Date.now() + seconds * 1000;
      await disturb();
      if (!this.#isAborted) await this.receiver.feel("well");
      clearInterval(writing);
      for (const family of this.families) {
        family.finishLine();
        family.unlink();
      }
      settledMs = await this.#settle();
      if (!this.#isAborted) await this.#endAgent();
    } finally {
      clearInterval(writing);
      clearInterval(looking);
      await this.abort();
      for (const family of this.families) family.close();
    }
    const verdict = await judge(this.ledger, this.subject.sinks, this.events, this.subject.tellsGaps);
    return {
      subject: this.subject,
      seed,
      seconds: this.seconds,
      verdict,
      ledger: this.ledger,
      done: this.done,
      happenings: this.happenings,
      events: this.events,
      samples: this.#samples,
      starts: this.#agent.starts,
      peakMiB: this.#peakMiB,
      settledMs,
      troubles: this.#troubles,
      isRight: verdict.isRight && this.#troubles.length === 0,
    };
  }

  /** What a rotation may ask of this run; its moments are drawn from `random`. */
  surroundings(random: SeededRandom): Surroundings {
    return {
      asideFolder: join(this.options.folder, "aside"),
      moment: (maxMs = 20) => passing(random.int(0, maxMs)),
      allDelivered: (family) => this.reach.allDelivered(family),
      holds: (family) => this.reach.holds(family),
      heldByAgentOnly: (generation) => this.reach.heldByAgentOnly(generation),
    };
  }

  happened(what: string): void {
    this.happenings.push({ atMs: Date.now(), what });
    appendFileSync(join(this.options.folder, "happenings.log"), `${new Date().toISOString()} ${what}\n`);
  }

  /** Counts, and tells where there is something to tell. */
  did(what: Ingredient, text?: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1);
    if (text !== undefined) this.happened(text);
  }

  failed(trouble: string): void {
    if (!this.#isAborted) this.#troubles.push(trouble);
  }

  startAgent(): void {
    if (this.#isAborted) return;
    this.agent.start();
    this.happened(`the agent is started, process ${this.agent.pid}`);
  }

  async killAgent(): Promise<void> {
    await this.agent.kill();
    this.reach.died();
  }

  #makeLogs(folder: string): void {
    for (const name of ["aside", "real"]) mkdirSync(join(folder, name), { recursive: true });
    for (const options of this.subject.families) {
      mkdirSync(dirname(options.path), { recursive: true });
      this.families.push(new LogFamily(options, this.ledger, this.random.fork()));
    }
  }

  #makeAgent(): AgentProcess {
    const command = this.subject.command(`http://127.0.0.1:${this.receiver.port}`);
    const env = { ...command.env, ...this.options.clock?.env };
    return new AgentProcess({ ...command, env }, (event) => this.events.push(event));
  }

  async #endAgent(): Promise<void> {
    const code = await this.agent.end(GIVE_UP_MS);
    this.happened(`SIGTERM; the agent ended with ${code}`);
    if (this.subject.tellsGaps && code !== 0)
      this.failed(`after SIGTERM the agent ended with ${code ?? `a kill, after ${GIVE_UP_MS / 1000} s`}`);
  }

  #write(): void {
    const { linesAtOnce = 8 } = this.options;
    for (const family of this.families) {
      const { random } = family;
      if (!random.chance(0.5)) continue;
      family.write(random.chance(0.1) ? random.int(linesAtOnce, linesAtOnce * 7) : random.int(1, linesAtOnce));
    }
  }

  #look(): void {
    for (const output of this.#outputs) output.read();
    const { agent } = this;
    const { disk } = this.options;
    this.reach.tick(agent.isAtWork && ["well", "slow"].includes(this.receiver.mood) && !disk?.isFull);
    this.#ticks += 1;
    if (this.#ticks % 10 === 1) this.#sample();
    const code = agent.endedByItself;
    if (code === undefined || this.#isAborted) return;
    this.happened(`the agent ended by itself with ${code}`);
    this.reach.died();
    const isDisk = disk !== undefined && (disk.isFull || Date.now() - disk.freedAtMs < 3_000);
    // Who cannot write a byte may give up; whoever watches over it starts it again.
    if (!isDisk) this.failed(`the agent ended by itself with ${code} at ${new Date().toISOString()}`);
    this.startAgent();
  }

  #sample(): void {
    const { ledger, seconds } = this;
    this.#samples.push({ seconds, written: ledger.lines, arrived: ledger.sinks.map((sink) => ledger.arrived(sink)) });
    try {
      const status = readFileSync(`/proc/${this.agent.pid}/status`, "utf8");
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
    const limitMs = Date.now() + GIVE_UP_MS + this.subject.reachMs;
    const isKnown = () =>
      this.families.every(({ generation }) =>
        this.ledger.sinks.every((sink) => this.ledger.hasBegun(sink, generation)),
      );
    while (!this.#isAborted && Date.now() < limitMs && !isKnown()) await passing(50);
    if (!isKnown()) this.failed("not every log was read after the first start");
    if (!this.#isAborted) await passing(1_000);
  }

  /** Everybody is well now: waits until all has come that can come; gives how long that took, milliseconds. */
  async #settle(): Promise<number> {
    if (this.#isAborted) return 0;
    this.happened("nothing is disturbed any more");
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
    const { ledger } = this;
    const isThere = (sink: string) =>
      ledger.arrived(sink) === ledger.lines ||
      ledger.families.every((family) =>
        ledger
          .generationsOf(family)
          .every((generation) => generation.destroyedAtMs !== undefined || ledger.has(sink, generation)),
      );
    return ledger.sinks.every(isThere);
  }
}

/** Everything that is known of a run, beside what its folder holds already. */
export function keepEvidence(folder: string, { ledger }: TrialResult): void {
  const stories = ledger.families.flatMap((family) =>
    ledger
      .generationsOf(family)
      .flatMap(({ number, story }) =>
        story.map(({ atMs, what }) => `${new Date(atMs).toISOString()} ${family} g${number} ${what}`),
      ),
  );
  writeFileSync(join(folder, "stories.log"), `${stories.sort().join("\n")}\n`);
}
