import { batchOf, type DeadLetterStore, type ReplayOrder } from "../dead-letters/index.ts";
import { toError } from "../errors.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Clock, Timer } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/log.ts";

const LOOK_MS = 1000;

/**
 * Sends dead letters again that somebody ordered to: into the component that refused them, from where they go on as every
 * record does. A letter is removed once all ways from there have settled it, durably; refused again, it is stored again.
 */
export class DeadLetterReplay {
  readonly #store: DeadLetterStore;
  readonly #pipeline: Pipeline;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #underWay = new Set<string>();
  #timer: Timer | undefined;
  /** One look at a time: however many orders come while a component takes nothing, one letter waits for it. */
  #isLooking = false;
  /** An order came while it looked, perhaps for a letter that it was past. */
  #isOrdered = false;
  #isStopped = false;

  constructor(store: DeadLetterStore, pipeline: Pipeline, clock: Clock, log: Logger) {
    this.#log = log;
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
    this.#isOrdered = true;
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#timer?.cancel();
    try {
      while (this.#isOrdered && !this.#isStopped) {
        this.#isOrdered = false;
        await this.#sendAll();
      }
    } catch (error) {
      this.#log.warn({ error: toError(error).message }, "dead letters cannot be sent again now; trying on");
    }
    this.#isLooking = false;
    if (!this.#isStopped) this.#timer = this.#clock.after(LOOK_MS, () => void this.#look());
  }

  async #sendAll(): Promise<void> {
    for await (const order of this.#store.pendingReplay()) {
      if (this.#isStopped) return;
      if (this.#underWay.has(order.token)) continue;
      this.#underWay.add(order.token);
      await this.#send(order);
    }
  }

  async #send(order: ReplayOrder): Promise<void> {
    const { letter, token } = order;
    let ways = 0;
    const batch = batchOf(letter, () => {
      ways -= 1;
      if (ways === 0) void this.#finish(order);
    });
    ways = this.#pipeline.waysFrom(letter.component, letter.record.source);
    if (ways === 0) this.#underWay.delete(token);
    else await this.#pipeline.resend(letter.component, letter.record.source, batch);
  }

  /** The order counts as under way until its removal is durable: a look in between must not send it twice. */
  async #finish({ letter, token }: ReplayOrder): Promise<void> {
    try {
      await this.#store.finishReplay([{ id: letter.id, token }]);
    } catch (error) {
      this.#log.warn(
        { id: letter.id, error: toError(error).message },
        "a dead letter was sent again and cannot be removed; it is sent once more",
      );
    }
    this.#underWay.delete(token);
  }
}
