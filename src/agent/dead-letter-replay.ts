import { batchOf, type DeadLetterStore, type ReplayOrder } from "../dead-letters/index.ts";
import { toError } from "../errors.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Clock, Timer } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/log.ts";

const LOOK_MS = 1000;

/**
 * Sends dead letters again that somebody ordered to: into the component that refused them, from where they go on as every
 * record does. A letter is removed once all ways from there have settled it, durably; refused again, it is stored again.
 * Until then it is under way, and however often it is ordered meanwhile, it is not sent twice.
 */
export class DeadLetterReplay {
  readonly #store: DeadLetterStore;
  readonly #pipeline: Pipeline;
  readonly #clock: Clock;
  readonly #log: Logger;
  /** Tokens of orders from when they are sent until their removal is durable. */
  readonly #underWay = new Set<string>();
  /** Settled on all ways, and not removed yet. */
  readonly #settled: { readonly id: string; readonly token: string }[] = [];
  #finishing: Promise<void> | undefined;
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

  /** Sends nothing more, and resolves once what has settled is removed. */
  async close(): Promise<void> {
    this.stop();
    await this.#finishing;
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
    this.#finish();
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
      try {
        await this.#send(order);
      } catch (error) {
        this.#underWay.delete(order.token);
        throw error;
      }
    }
  }

  async #send({ letter, token }: ReplayOrder): Promise<void> {
    let ways = this.#pipeline.waysFrom(letter.component, letter.record.source);
    const batch = batchOf(letter, (ranges) => {
      // Events that were split from the record end before it does: what it covers ends with the last of them.
      if (ranges.length === 0 && batch.ranges.some(({ start, end }) => start < end)) return;
      ways -= 1;
      if (ways > 0) return;
      this.#settled.push({ id: letter.id, token });
      this.#finish();
    });
    if (ways === 0) this.#underWay.delete(token);
    else await this.#pipeline.resend(letter.component, letter.record.source, batch);
  }

  #finish(): void {
    if (this.#settled.length > 0) this.#finishing ??= this.#removeSettled();
  }

  /** Together, so that few are left that dying now would send once more. */
  async #removeSettled(): Promise<void> {
    try {
      while (this.#settled.length > 0) {
        const orders = [...this.#settled];
        await this.#store.finishReplay(orders);
        this.#settled.splice(0, orders.length);
        for (const { token } of orders) this.#underWay.delete(token);
      }
    } catch (error) {
      // On a full disk, say. They stay under way: else each look would send them once more.
      this.#log.warn(
        { letters: this.#settled.length, error: toError(error).message },
        "dead letters were sent again and cannot be removed now; trying on",
      );
    }
    this.#finishing = undefined;
  }
}
