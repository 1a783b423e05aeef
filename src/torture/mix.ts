import { appendFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { SeededRandom } from "../testing/seeded-random.ts";
import { type AgentCommand, type AgentEvent, AgentProcess } from "./agent-process.ts";
import type { Generation, Happening } from "./generation.ts";
import { Ledger } from "./ledger.ts";
import { type FamilyOptions, type Kept, LogFamily } from "./log-family.ts";
import { BAD_MOODS, type Mood, MoodyReceiver } from "./moody-receiver.ts";
import { OutputReader, outputLine } from "./output-reader.ts";
import { kindsOf, ROTATION_KINDS, type RotationKind, type Surroundings } from "./rotation-kind.ts";
import { judge, type Verdict } from "./verdict.ts";

/** What a run can be without, so that a fault is cornered. */
export type Ingredient = RotationKind | "kills" | "stops" | "moods" | "links" | "alias";

export interface MixPlan {
  readonly seed: number;
  readonly seconds: number;
  /** A private folder, in which everything happens. */
  readonly folder: string;
  readonly families: readonly FamilyOptions[];
  /** Least time of undisturbed work in which an agent must have read what is there, milliseconds. */
  readonly reachMs: number;
  readonly command: (port: number) => AgentCommand;
  /** Output of the sink that is exactly once. */
  readonly output: string;
  readonly rotateEveryMs: number;
  /** Kinds of rotation and of disturbance that are left out. */
  readonly without?: ReadonlySet<Ingredient>;
  readonly port?: number;
}

export interface MixFigures {
  seconds: number;
  lines: number;
  generations: number;
  kills: number;
  stops: number;
  moods: number;
  links: number;
  readonly rotations: { [kind in RotationKind]?: number };
}

export interface MixResult {
  readonly verdict: Verdict;
  readonly figures: MixFigures;
  readonly ledger: Ledger;
  readonly happenings: readonly Happening[];
  readonly events: readonly AgentEvent[];
  /** What went wrong with the agent itself. */
  readonly troubles: readonly string[];
}

const TICK_MS = 20;
/** How long after it was delivered something is surely committed. */
const DURABLE_MS = 1_000;
/** Without a single new line for so long, what is missing will not come. */
const GIVE_UP_MS = 20_000;
export const EXACT = "file";
export const AT_LEAST_ONCE = "http";

/** The chance mix: one run over several logs, one agent, a sink that is well and a sink with moods. */
export class Mix {
  readonly figures: MixFigures = {
    seconds: 0,
    lines: 0,
    generations: 0,
    kills: 0,
    stops: 0,
    moods: 0,
    links: 0,
    rotations: {},
  };
  readonly ledger = new Ledger([EXACT, AT_LEAST_ONCE]);
  readonly #plan: MixPlan;
  readonly #random: SeededRandom;
  readonly #happenings: Happening[] = [];
  readonly #events: AgentEvent[] = [];
  readonly #troubles: string[] = [];
  readonly #receiver: MoodyReceiver;
  readonly #output: OutputReader;
  readonly #families: LogFamily[] = [];
  readonly #busy = new Set<Promise<void>>();
  readonly #deliveredAtMs = new Map<Generation, number>();
  #agent: AgentProcess | undefined;
  #lastKillMs = 0;
  #isOver = false;

  constructor(plan: MixPlan) {
    this.#plan = plan;
    this.#random = new SeededRandom(plan.seed);
    this.#output = new OutputReader(plan.output, EXACT, this.ledger);
    this.#receiver = new MoodyReceiver((body) => this.#received(body), plan.port ?? 0);
  }

  get state(): string {
    const arrived = this.ledger.sinks.map((sink) => `${sink} ${this.ledger.arrived(sink)}`).join(", ");
    const agent = this.#agent?.isAtWork ? "at work" : "down";
    return `${this.ledger.lines} lines written, arrived: ${arrived}; agent ${agent}; sink ${this.#receiver.mood}`;
  }

  get agentPid(): number | undefined {
    return this.#agent?.pid;
  }

  /** Ends everything at once. */
  abort(): void {
    this.#isOver = true;
    void this.#agent?.kill();
    this.#receiver.stop();
    for (const family of this.#families) family.close();
  }

  async run(): Promise<MixResult> {
    const { seconds, folder, families } = this.#plan;
    const startMs = Date.now();
    for (const name of ["aside", "logs", "real"]) mkdirSync(join(folder, name), { recursive: true });
    for (const options of families) {
      mkdirSync(dirname(options.path), { recursive: true });
      this.#families.push(new LogFamily(options, this.ledger, this.#random.fork()));
    }
    await this.#receiver.start();
    this.#agent = new AgentProcess(this.#plan.command(this.#receiver.port), (event) => this.#events.push(event));
    const timers = [setInterval(() => this.#write(), TICK_MS), setInterval(() => this.#reach(), 100)];
    let endMs = Number.POSITIVE_INFINITY;
    const going = () => !this.#isOver && Date.now() < endMs;
    this.#startAgent();
    try {
      await this.#begin();
      endMs = Date.now() + seconds * 1000;
      await Promise.all([
        this.#rotate(going, this.#random.fork()),
        this.#disturbAgent(going, this.#random.fork()),
        ...this.#others(going),
      ]);
      await Promise.all(this.#busy);
      clearInterval(timers[0]);
      for (const family of this.#families) {
        family.finishLine();
        family.unlink();
      }
      await this.#settle();
      const code = await this.#agent.end(20_000);
      this.#happen(`SIGTERM; the agent ended with ${code}`);
      if (code !== 0) this.#troubles.push(`after SIGTERM the agent ended with ${code ?? "a kill, being late"}`);
    } finally {
      for (const timer of timers) clearInterval(timer);
      this.abort();
    }
    this.figures.seconds = (Date.now() - startMs) / 1000;
    this.figures.lines = this.ledger.lines;
    this.figures.generations = this.ledger.generations;
    const sinks = [{ sink: EXACT, isExact: true, path: this.#plan.output }, { sink: AT_LEAST_ONCE, isExact: false }];
    const verdict = await judge(this.ledger, sinks, this.#events);
    return {
      verdict,
      figures: this.figures,
      ledger: this.ledger,
      happenings: this.#happenings,
      events: this.#events,
      troubles: this.#troubles,
    };
  }

  #others(going: () => boolean): Promise<void>[] {
    const others = { moods: this.#changeMoods, links: this.#link, alias: this.#alias } as const;
    return (Object.keys(others) as (keyof typeof others)[]).map((name) => {
      const random = this.#random.fork();
      return this.#isWithout(name) ? Promise.resolve() : others[name].call(this, going, random);
    });
  }

  #isWithout(name: Ingredient): boolean {
    return this.#plan.without?.has(name) ?? false;
  }

  #happen(what: string): void {
    this.#happenings.push({ atMs: Date.now(), what });
    appendFileSync(join(this.#plan.folder, "happenings.log"), `${new Date().toISOString()} ${what}\n`);
  }

  #write(): void {
    for (const family of this.#families) {
      const { random } = family;
      if (random.chance(0.5)) family.write(random.chance(0.1) ? random.int(10, 60) : random.int(1, 8));
    }
  }

  /** Looks at the output, and counts for rotated files how long an agent that was well had them within its reach. */
  #reach(): void {
    this.#output.read();
    const isWell = this.#agent!.isAtWork && ["well", "slow"].includes(this.#receiver.mood);
    for (const family of this.#families) {
      for (const kept of family.kept) if (isWell) kept.reachedMs += 100;
      if (!family.isBusy) family.deleteOldest((kept) => this.#mayGo(kept));
    }
    const code = this.#agent!.endedByItself;
    if (code !== undefined) {
      this.#troubles.push(`the agent ended by itself with ${code} at ${new Date().toISOString()}`);
      this.#happen(`the agent ended by itself with ${code}`);
      this.#startAgent();
    }
  }

  #mayGo({ generation, reachedMs }: Kept): boolean {
    return reachedMs >= this.#plan.reachMs || this.#isDurable(generation);
  }

  /** Every sink has had all of it for a while, and no agent died since. */
  #isDurable(generation: Generation): boolean {
    const isThere = this.ledger.sinks.every((sink) => this.ledger.has(sink, generation));
    if (!isThere) {
      this.#deliveredAtMs.delete(generation);
      return false;
    }
    const sinceMs = this.#deliveredAtMs.get(generation);
    if (sinceMs === undefined || sinceMs < this.#lastKillMs) {
      this.#deliveredAtMs.set(generation, Date.now());
      return false;
    }
    return this.#agent!.isAtWork && Date.now() - sinceMs > DURABLE_MS;
  }

  #startAgent(): void {
    this.#agent!.start();
    this.#happen(`the agent is started, process ${this.#agent!.pid}`);
  }

  async #killAgent(): Promise<void> {
    this.#happen(`kill -9 of process ${this.#agent!.pid}`);
    const nowMs = Date.now();
    await this.#agent!.kill();
    this.#lastKillMs = Date.now();
    for (const family of this.#families)
      for (const generation of this.ledger.generationsOf(family.name)) {
        if (!generation.isHeldByAgentOnly || generation.destroyedAtMs !== undefined) continue;
        const isSafe = this.#deliveredAtMs.has(generation) && this.#isDurableBefore(generation, nowMs);
        if (!isSafe) generation.destroyedAtMs = nowMs;
      }
    for (const family of this.#families) for (const kept of family.kept) kept.reachedMs = 0;
  }

  #isDurableBefore(generation: Generation, killedAtMs: number): boolean {
    return killedAtMs - this.#deliveredAtMs.get(generation)! > DURABLE_MS;
  }

  async #rotate(going: () => boolean, random: SeededRandom): Promise<void> {
    const surroundings: Surroundings = {
      asideFolder: join(this.#plan.folder, "aside"),
      moment: (maxMs = 20) => passing(random.int(0, maxMs)),
      allDelivered: async (family) => {
        const { generation } = family;
        this.#deliveredAtMs.delete(generation);
        for (let tries = 0; tries < 40; tries += 1) {
          if (this.#isDurable(generation)) return true;
          await passing(100);
        }
        return false;
      },
      holds: ({ generation }) =>
        this.#agent!.isAtWork &&
        this.ledger.hasBegun(EXACT, generation) &&
        (generation.story[0]?.atMs ?? 0) > this.#lastKillMs &&
        Date.now() - generation.story[0]!.atMs > 1_500,
    };
    while (going()) {
      await passing(this.#plan.rotateEveryMs);
      // What is held by the agent alone is safe once it is durable; this remembers since when.
      for (const family of this.#families)
        for (const generation of this.ledger.generationsOf(family.name).slice(-20))
          if (generation.isHeldByAgentOnly) this.#isDurable(generation);
      const free = this.#families.filter((family) => !family.isBusy);
      if (free.length === 0) continue;
      const family = random.pick(free);
      const kind = random.weighted(kindsOf(family));
      if (this.#isWithout(kind)) continue;
      family.isBusy = true;
      const work = ROTATION_KINDS[kind](family, surroundings).then(
        (isDone) => {
          if (isDone) this.figures.rotations[kind] = (this.figures.rotations[kind] ?? 0) + 1;
        },
        (error: Error) => {
          this.#troubles.push(`${kind} of ${family.name} failed: ${error.stack}`);
        },
      );
      const done = work.finally(() => {
        family.isBusy = false;
        this.#busy.delete(done);
      });
      this.#busy.add(done);
    }
  }

  async #disturbAgent(going: () => boolean, random: SeededRandom): Promise<void> {
    while (going()) {
      await passing(random.weighted({ soon: 4, later: 4, calm: 1 }) === "calm" ? 8_000 : random.int(200, 4_000));
      if (!going()) return;
      if (random.chance(0.3) && !this.#isWithout("stops")) {
        const ms = random.int(50, 1_500);
        this.#happen(`SIGSTOP for ${ms} ms`);
        this.figures.stops += 1;
        this.#agent!.pause();
        await passing(ms);
        if (random.chance(0.8)) {
          this.#agent!.resume();
          this.#happen("SIGCONT");
          continue;
        }
      }
      if (this.#isWithout("kills")) {
        this.#agent!.resume();
        continue;
      }
      this.figures.kills += 1;
      await this.#killAgent();
      await passing(random.chance(0.3) ? 0 : random.int(0, 1_500));
      this.#startAgent();
    }
  }

  async #changeMoods(going: () => boolean, random: SeededRandom): Promise<void> {
    const feel = async (mood: Mood) => {
      this.#happen(`the http sink is ${mood}`);
      await this.#receiver.feel(mood);
    };
    while (going()) {
      await passing(random.int(500, 3_000));
      if (!going()) break;
      this.figures.moods += 1;
      await feel(random.pick(BAD_MOODS));
      await passing(random.int(300, 4_000));
      await feel("well");
    }
    await feel("well");
  }

  /** Second names of live logs come and go. */
  async #link(going: () => boolean, random: SeededRandom): Promise<void> {
    while (going()) {
      await passing(random.int(100, 900));
      const family = random.pick(this.#families);
      if (family.isBusy || family.options.naming !== "numbers") continue;
      if (family.hasLinks) family.unlink();
      else {
        family.link(dirname(family.path));
        this.figures.links += 1;
      }
    }
  }

  /** A symlink among the logs that leads now to one, now to another of them: a further name, no further file. */
  async #alias(going: () => boolean, random: SeededRandom): Promise<void> {
    const plain = this.#families.filter(({ options }) => options.naming === "numbers");
    if (plain.length === 0) return;
    const path = join(dirname(plain[0]!.path), "alias.log");
    while (going()) {
      const family = random.pick(plain);
      rmSync(path, { force: true });
      if (random.chance(0.3)) await passing(100);
      symlinkSync(family.path, path);
      this.#happen(`alias.log leads to ${basename(family.path)}`);
      await passing(random.int(300, 2_000));
    }
  }

  #received(body: string): void {
    for (const text of body.split("\n")) {
      if (text === "") continue;
      const line = this.ledger.recognise(outputLine(text).message);
      if (line !== undefined) this.ledger.count(AT_LEAST_ONCE, line);
    }
  }

  /** What was rotated before an agent ever saw the log is nobody's: nothing is disturbed until each log is known. */
  async #begin(): Promise<void> {
    const limitMs = Date.now() + GIVE_UP_MS;
    const isKnown = () =>
      this.#families.every(({ generation }) => this.ledger.sinks.every((sink) => this.ledger.hasBegun(sink, generation)));
    while (!this.#isOver && Date.now() < limitMs && !isKnown()) await passing(50);
    if (!isKnown()) this.#troubles.push(`not every log was read within ${GIVE_UP_MS / 1000} s of the first start`);
    await passing(DURABLE_MS);
  }

  /** Everybody is well now: waits until all has come that can come. */
  async #settle(): Promise<void> {
    this.#happen("nothing is disturbed any more");
    let before = -1;
    let sinceMs = Date.now();
    while (!this.#isOver && Date.now() - sinceMs < GIVE_UP_MS) {
      await passing(200);
      const now = this.ledger.sinks.reduce((sum, sink) => sum + this.ledger.arrived(sink), 0);
      if (now !== before) sinceMs = Date.now();
      before = now;
      if (this.#isAllThere()) break;
    }
    // What comes twice comes late.
    await passing(1_500);
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

function passing(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Everything that is known of a run, for whoever wants to look. */
export function keepEvidence(folder: string, result: MixResult): void {
  const stories = result.ledger.families.flatMap((family) =>
    result.ledger
      .generationsOf(family)
      .flatMap(({ number, story }) =>
        story.map(({ atMs, what }) => `${new Date(atMs).toISOString()} ${family} g${number} ${what}`),
      ),
  );
  writeFileSync(join(folder, "stories.log"), `${stories.sort().join("\n")}\n`);
}
