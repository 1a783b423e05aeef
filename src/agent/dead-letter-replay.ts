import { batchOf, type DeadLetterStore, type ReplayOrder } from "../dead-letters/index.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Clock, Timer } from "../runtime/clock.ts";

const LOOK_MS = 1000;

/**
 * Sends dead letters again that somebody ordered to: into the component that refused them, from where they go on as every
 * record does. A letter is removed once all ways from there have settled it, durably; refused again, it is stored again.
 */
export class DeadLetterReplay {
  readonly #store: DeadLetterStore;
  readonly #pipeline: Pipeline;
  readonly #clock: Clock;
  readonly #underWay = new Set<string>();
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(store: DeadLetterStore, pipeline: Pipeline, clock: Clock) {
    this.#store = store;
    this.#pipeline = pipeline;
    this.#clock = clock;
  }

  /** Looks for orders now and once a second, since `tailrace dlq replay` may have left some while no agent ran. */
  start(signal: AbortSignal): void {
    signal.addEventListener("abort", () => this.stop(), { once: true });
    void this.#look();
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  async order(ids: readonly string[]): Promise<number> {
    const ordered = await this.#store.markForReplay(ids);
    void this.#look();
    return ordered;
  }

  async #look(): Promise<void> {
    this.#timer?.cancel();
    if (this.#isStopped) return;
    for await (const order of this.#store.pendingReplay()) {
      if (this.#isStopped) return;
      if (this.#underWay.has(order.token)) continue;
      this.#underWay.add(order.token);
      await this.#send(order);
    }
    this.#timer = this.#clock.after(LOOK_MS, () => void this.#look());
  }

  async #send(order: ReplayOrder): Promise<void> {
    const { letter, token } = order;
    let ways = 0;
    const batch = batchOf(letter, () => {
      ways -= 1;
      if (ways > 0) return;
      this.#underWay.delete(token);
      void this.#store.finishReplay([{ id: letter.id, token }]);
    });
    ways = await this.#pipeline.resend(letter.component, letter.record.source, batch);
    if (ways === 0) this.#underWay.delete(token);
  }
}
