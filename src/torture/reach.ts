import type { AgentProcess } from "./agent-process.ts";
import type { Generation } from "./generation.ts";
import type { Ledger } from "./ledger.ts";
import type { Kept, LogFamily } from "./log-family.ts";
import { passing } from "./passing.ts";

/** How long after it was delivered something is surely committed. */
const DURABLE_MS = 1_000;
/** How long after its first look an agent surely remembers a file. */
const KNOWN_MS = 1_500;
const TICK_MS = 100;

/**
 * What an agent could have had. Nothing is owed that was out of its reach, so content is destroyed only when it was
 * delivered and is durable, or when an agent that was well had time enough; what is destroyed sooner is remembered as such.
 */
export class Reach {
  readonly #ledger: Ledger;
  readonly #families: readonly LogFamily[];
  readonly #reachMs: number;
  readonly #agent: AgentProcess;
  readonly #deliveredAtMs = new Map<Generation, number>();
  readonly #held = new Set<Generation>();
  #sighted = new WeakMap<Generation, { readonly atMs: number; readonly offset: number }>();
  #lastDeathMs = 0;
  #atWorkMs = 0;

  constructor(ledger: Ledger, families: readonly LogFamily[], reachMs: number, agent: AgentProcess) {
    this.#ledger = ledger;
    this.#families = families;
    this.#reachMs = reachMs;
    this.#agent = agent;
  }

  /** To be called each `TICK_MS`. `isWell`: nothing keeps the agent from reading. */
  tick(isWell: boolean): void {
    for (const family of this.#families) {
      if (isWell) for (const kept of family.kept) kept.reachedMs += TICK_MS;
      if (!family.isBusy) family.deleteOldest((kept) => this.#mayGo(kept));
    }
    this.#sight();
    for (const generation of this.#held)
      if (this.#isDurable(generation) || generation.destroyedAtMs !== undefined) this.#held.delete(generation);
  }

  /** What was there a second ago, an agent that is at work since has seen. */
  #sight(): void {
    this.#atWorkMs = this.#agent.isAtWork ? this.#atWorkMs + TICK_MS : 0;
    if (this.#atWorkMs < KNOWN_MS) {
      this.#sighted = new WeakMap();
      return;
    }
    const nowMs = Date.now();
    for (const { generation, offset } of this.#families) {
      const sighted = this.#sighted.get(generation);
      if (sighted !== undefined && nowMs - sighted.atMs < DURABLE_MS) continue;
      if (sighted !== undefined) generation.seenOffset = sighted.offset;
      this.#sighted.set(generation, { atMs: nowMs, offset });
    }
  }

  /** The agent's process is gone, and with it whatever it alone held open. */
  died(): void {
    this.#lastDeathMs = Date.now();
    for (const generation of this.#held) generation.destroyedAtMs = this.#lastDeathMs;
    this.#held.clear();
    for (const family of this.#families) for (const kept of family.kept) kept.reachedMs = 0;
  }

  /** Its last name is gone: it lives as long as the agent holds it. */
  heldByAgentOnly(generation: Generation): void {
    this.#held.add(generation);
  }

  /** Waits until every sink has each line of the live generation, and that is durable; false: not in time. */
  async allDelivered({ generation }: LogFamily): Promise<boolean> {
    this.#deliveredAtMs.delete(generation);
    for (let tries = 0; tries < 40; tries += 1) {
      if (this.#isDurable(generation)) return true;
      await passing(TICK_MS);
    }
    return false;
  }

  /** Whether the agent that runs now has the live file open for sure. */
  holds({ generation }: LogFamily): boolean {
    const beganMs = generation.story[0]?.atMs ?? Number.POSITIVE_INFINITY;
    return (
      this.#agent.isAtWork &&
      this.#ledger.hasBegun(this.#ledger.sinks[0]!, generation) &&
      beganMs > this.#lastDeathMs &&
      Date.now() - beganMs > KNOWN_MS
    );
  }

  #mayGo({ generation, reachedMs }: Kept): boolean {
    return reachedMs >= this.#reachMs || this.#isDurable(generation);
  }

  /** Every sink has had all of it for a while, and no agent died since. */
  #isDurable(generation: Generation): boolean {
    if (!this.#ledger.sinks.every((sink) => this.#ledger.has(sink, generation))) {
      this.#deliveredAtMs.delete(generation);
      return false;
    }
    const sinceMs = this.#deliveredAtMs.get(generation);
    if (sinceMs === undefined || sinceMs < this.#lastDeathMs) {
      this.#deliveredAtMs.set(generation, Date.now());
      return false;
    }
    return this.#agent.isAtWork && Date.now() - sinceMs > DURABLE_MS;
  }
}
