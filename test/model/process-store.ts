import type { Change, CheckpointStore, StoredState } from "../../src/checkpoint/checkpoint-store.ts";
import { CheckpointError } from "../../src/errors.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { SeededRandom } from "../../src/testing/seeded-random.ts";

/** The store as one process sees it: commits take a while, may fail, and are never answered to the dead. */
export class ProcessStore implements CheckpointStore {
  readonly #rows: CheckpointStore;
  readonly #clock: Clock;
  readonly #random: SeededRandom;
  readonly #delayChance: number;
  readonly #failsNow: () => boolean;
  readonly #onStep: () => void;
  #isDead = false;

  /** @param rows what outlives the process */
  constructor(rows: CheckpointStore, clock: Clock, random: SeededRandom, options: ProcessStoreOptions) {
    this.#rows = rows;
    this.#clock = clock;
    this.#random = random;
    this.#delayChance = options.delayChance;
    this.#failsNow = options.failsNow;
    this.#onStep = options.onStep ?? (() => {});
  }

  load(): Promise<StoredState> {
    return this.#rows.load();
  }

  async commit(changes: readonly Change[]): Promise<void> {
    await this.#while();
    if (this.#failsNow()) throw new CheckpointError("TR_COMMIT_FAILED", "the simulation made this commit fail");
    await this.#rows.commit(changes);
    await this.#while();
  }

  async close(): Promise<void> {}

  /** SIGKILL: a commit under way may or may not take effect, and nobody hears of it. */
  kill(): void {
    this.#isDead = true;
  }

  async #while(): Promise<void> {
    if (this.#random.chance(this.#delayChance)) await this.#clock.sleep(this.#random.next() * 30);
    if (!this.#isDead) this.#onStep();
    if (this.#isDead) await new Promise<never>(() => {});
  }
}

interface ProcessStoreOptions {
  /** Chance that a commit takes time. */
  readonly delayChance: number;
  /** Whether the commit that is about to take effect fails. */
  readonly failsNow: () => boolean;
  /** Called before and after the effect of every commit: a place to end the process. */
  readonly onStep?: () => void;
}
