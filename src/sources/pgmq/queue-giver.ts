import { failureOf } from "../../postgres/failure.ts";
import { PgSession } from "../../postgres/session.ts";
import { Backoff } from "../../runtime/backoff.ts";
import type { Clock, Timer } from "../../runtime/clock.ts";
import type { SourceContext } from "../../stage/index.ts";
import type { HeldMessages } from "./held-messages.ts";

export interface QueueGiverOptions {
  readonly url: string;
  readonly queue: string;
  readonly visibilitySeconds: number;
  readonly onAck: "archive" | "delete";
  readonly timeoutMs: number;
}

/** Messages that one statement archives: enough that its own cost no longer counts, and its locks are soon gone. */
const MAX_AT_ONCE = 5000;

/**
 * Tells the queue what became of messages: archives or deletes those that are done, extends those in work, and at the end
 * gives back those that nobody finished. One statement at a time on a connection of its own; what could not be told is
 * told again, which changes nothing where it had arrived.
 */
export class QueueGiver {
  /** Why it cannot tell the queue anything, while it cannot. */
  trouble: string | undefined;
  readonly #options: QueueGiverOptions;
  readonly #context: SourceContext;
  readonly #held: HeldMessages;
  readonly #onRoom: () => void;
  readonly #backoff: Backoff;
  #session: PgSession | undefined;
  #isRunning = false;
  #running: Promise<void> = Promise.resolve();
  #isClosed = false;
  readonly #stop = new AbortController();
  #extension: Timer | undefined;

  /** @param onRoom messages are no longer held */
  constructor(options: QueueGiverOptions, context: SourceContext, held: HeldMessages, onRoom: () => void) {
    this.#options = options;
    this.#context = context;
    this.#held = held;
    this.#onRoom = onRoom;
    this.#backoff = new Backoff({ initialMs: 50, maxMs: 5000 }, context.random);
  }

  /** Every sink has the message, and that is committed. */
  done(id: number): void {
    this.#held.done(id);
    this.#start();
  }

  /** There are messages in work: looks after their visibility. */
  watch(): void {
    if (this.#extension !== undefined || this.#isClosed) return;
    this.#extension = this.#clock.after(this.#thirdMs, () => {
      this.#extension = undefined;
      if (this.#held.count === 0) return;
      this.#start();
      this.watch();
    });
  }

  /** Tells what is done, gives the rest back and disconnects; takes no longer than `timeout_ms`. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#extension?.cancel();
    const limit = this.#clock.after(this.#options.timeoutMs, () => this.#stop.abort());
    await this.#running;
    try {
      await this.giveBack(this.#held.unfinished());
    } catch {
      // They become visible by themselves when their time-out is over.
    }
    limit.cancel();
    this.#stop.abort();
    await this.#session?.close();
  }

  get #clock(): Clock {
    return this.#context.clock;
  }

  /** A third of the visibility: two extensions may fail before others see a message that is in work. */
  get #thirdMs(): number {
    return (this.#options.visibilitySeconds * 1000) / 3;
  }

  #start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    // What ends in the same instant goes together.
    await Promise.resolve();
    while (!this.#stop.signal.aborted) {
      try {
        await this.#extend();
        if (this.#held.doneCount === 0) break;
        await this.#archive();
        this.#backoff.reset();
        if (this.trouble !== undefined) this.#context.log.info({}, `${this.#context.name} acknowledges again`);
        this.trouble = undefined;
      } catch (thrown) {
        const { message } = failureOf(thrown, String);
        if (this.trouble === undefined)
          this.#context.log.warn(
            { reason: message },
            `${this.#context.name} cannot acknowledge: ${message}; trying on`,
          );
        this.trouble = message;
        this.#session?.destroy("it failed");
        await this.#clock.sleep(this.#backoff.next(), { signal: this.#stop.signal });
      }
    }
    // In the same turn as the last look at what is done: what comes now starts another run.
    this.#isRunning = false;
  }

  async #archive(): Promise<void> {
    const ids = this.#held.takeDone(MAX_AT_ONCE);
    const session = await this.#connected();
    await session.query(`SELECT count(*) FROM pgmq.${this.#options.onAck}($1, $2::bigint[])`, [
      this.#options.queue,
      arrayOf(ids),
    ]);
    this.#held.forget(ids);
    this.#onRoom();
  }

  async #extend(): Promise<void> {
    const { queue, visibilitySeconds } = this.#options;
    const ids = this.#held.endingBefore(this.#clock.monotonic() + 2 * this.#thirdMs);
    for (let at = 0; at < ids.length; at += MAX_AT_ONCE) {
      const some = ids.slice(at, at + MAX_AT_ONCE);
      const session = await this.#connected();
      const fromMs = this.#clock.monotonic();
      await session.query("SELECT count(*) FROM pgmq.set_vt($1, $2::bigint[], $3::integer)", [
        queue,
        arrayOf(some),
        visibilitySeconds,
      ]);
      this.#held.extended(some, fromMs + visibilitySeconds * 1000);
    }
  }

  /** Makes messages visible to everybody that were never handed on, or that nobody finished. @throws PgFailure */
  async giveBack(ids: readonly number[]): Promise<void> {
    if (ids.length === 0) return;
    const session = await this.#connected();
    await session.query("SELECT count(*) FROM pgmq.set_vt($1, $2::bigint[], 0)", [this.#options.queue, arrayOf(ids)]);
    this.#held.forget(ids);
  }

  async #connected(): Promise<PgSession> {
    if (this.#session !== undefined && this.#session.trouble === undefined) return this.#session;
    const { url, timeoutMs } = this.#options;
    const { name, clock } = this.#context;
    this.#session = await PgSession.open(
      { url, applicationName: `tailrace ${name} acknowledgements`, timeoutMs, clock },
      this.#stop.signal,
    );
    return this.#session;
  }
}

function arrayOf(ids: readonly number[]): string {
  return `{${ids.join(",")}}`;
}
