import type { Broadcast, OneshotSender, Receiver, Sender } from "../channel/index.ts";
import { oneshot } from "../channel/index.ts";
import { BackpressureError } from "../errors.ts";
import { TaskReadiness } from "../readiness/index.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type { StageChannels } from "../stage/index.ts";
import type { Logger } from "../telemetry/log.ts";
import type { HandlerPool } from "./handler-pool.ts";
import type { HandlerEvent } from "./lifecycle.ts";
import type { Task } from "./task.ts";

/** A message on its way to the workers of one pool. */
interface Dispatched {
  readonly pool: HandlerPool;
  readonly task: Task;
}

/** What the command processor carries out, one after the other. */
type Command = { readonly pool: HandlerPool } & (
  | { readonly kind: "scale"; readonly workers: number; readonly done: OneshotSender<true> }
  | { readonly kind: "stop"; readonly done: OneshotSender<true> }
  | { readonly kind: "check" }
);

export interface DispatchOptions {
  readonly channels: StageChannels;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/**
 * What all handlers of a process share: the designed channels.
 *
 * ```
 * write -- offer ------> shared/ffi ----> parked, alone -> worker
 *            | 80 %: BackpressureError       ^               |
 *            | of new messages               |               | answers: each worker's own way back, past everything
 * due ---- offerAgain --------------'        |               v
 *   ^        | 100 %: BackpressureError      |             owner
 *   '-- task_readiness/event_channel <-- retry, redelivery --'
 *
 * scale, stop, check --> worker/command_processor --> pools      worker/in_process_events --> handlers that listen
 * ```
 *
 * Messages stay in the channel until a worker is free. Those of a busy pool that stand before one for an idle pool are
 * parked with their pool: no more than its share of the channel.
 */
export class Dispatch {
  readonly readiness: TaskReadiness;
  readonly events: Broadcast<HandlerEvent>;
  readonly #pools = new Set<HandlerPool>();
  readonly #sender: Sender<Dispatched>;
  readonly #receiver: Receiver<Dispatched>;
  readonly #threshold: number;
  readonly #commandSender: Sender<Command>;
  readonly #commandReceiver: Receiver<Command>;
  readonly #processing: Promise<void>;
  /** New messages that were refused. */
  refusals = 0;

  private constructor(options: DispatchOptions) {
    const { channels } = options;
    const dispatch = channels.create<Dispatched>("shared.ffi", {
      why: "messages on their way to foreign handlers; refused when they are behind",
      priorityLanes: { isCritical: ({ task }) => task.failures > 0 || task.isSuspect },
      // By a policy that somebody configured in place of `error`: nothing gets lost here.
      onDrop: ({ pool, task }, reason) => {
        if (reason === "policy") pool.displaced(task);
      },
    });
    this.#sender = dispatch.sender;
    this.#receiver = dispatch.receiver;
    this.#threshold = dispatch.size.warningThreshold;
    const commands = channels.create<Command>("worker.command_processor", {
      why: "commands to the pools of handlers: scale, stop, check",
    });
    this.#commandSender = commands.sender;
    this.#commandReceiver = commands.receiver;
    this.events = channels.createBroadcast<HandlerEvent>("worker.in_process_events", {
      why: "what happens in the pools, for handlers that listen",
    });
    this.readiness = TaskReadiness.shared(options);
    this.#processing = this.#process();
  }

  static readonly #shared = new WeakMap<StageChannels, Dispatch>();

  /** The one of this process; made when the first pool joins, gone with the last. */
  static shared(options: DispatchOptions): Dispatch {
    let dispatch = Dispatch.#shared.get(options.channels);
    if (dispatch === undefined) {
      dispatch = new Dispatch(options);
      Dispatch.#shared.set(options.channels, dispatch);
    }
    return dispatch;
  }

  join(pool: HandlerPool): void {
    this.#pools.add(pool);
  }

  /** Behind its `stop`. */
  async leave(pool: HandlerPool, channels: StageChannels): Promise<void> {
    this.#pools.delete(pool);
    if (this.#pools.size > 0) return;
    Dispatch.#shared.delete(channels);
    // All at once, so that the next pool can make them again.
    this.#commandSender.close();
    this.#commandReceiver.close();
    this.#sender.close();
    this.#receiver.close();
    this.events.close();
    await Promise.all([this.#processing, this.readiness.release()]);
  }

  /**
   * Offers a new message to a pool; never waits.
   * @throws BackpressureError: the pool is behind. The message stays with its owner, who may offer it again after the wait.
   */
  offer(pool: HandlerPool, task: Task): void {
    // Load is shed at the door: what was claimed before, and comes back, has the rest of the channel for itself.
    const share = Math.floor((this.#sender.counters().capacity * this.#threshold) / this.#pools.size);
    const refused = pool.waiting >= Math.max(1, share) ? this.#refusal(pool) : this.offerAgain(pool, task);
    if (refused === undefined) return;
    this.refusals += 1;
    throw refused;
  }

  /** As `offer`, for a message that was claimed before: up to the last place. What it throws is returned. */
  offerAgain(pool: HandlerPool, task: Task): BackpressureError | undefined {
    pool.waiting += 1;
    if (this.#sender.trySend({ pool, task }) !== "sent") {
      pool.waiting -= 1;
      return this.#refusal(pool);
    }
    this.pump();
    return undefined;
  }

  #refusal(pool: HandlerPool): BackpressureError {
    const waitMs = Math.ceil(pool.suggestedWaitMs);
    return new BackpressureError(waitMs, `${pool.name} is behind: its workers take nothing new for about ${waitMs} ms`);
  }

  /** Takes messages out of the channel while some pool could use one. */
  pump(): void {
    while (this.#isHungry()) {
      const next = this.#receiver.tryRecv();
      if (next === undefined) return;
      next.pool.place(next.task);
    }
  }

  #isHungry(): boolean {
    for (const pool of this.#pools) if (pool.isHungry) return true;
    return false;
  }

  /** Gives the pool so many workers; resolves when those that are too many have ended. */
  scale(pool: HandlerPool, workers: number): Promise<void> {
    return this.#command((done) => ({ kind: "scale", pool, workers, done }));
  }

  /** Ends the workers of the pool; resolves when they are gone. */
  stop(pool: HandlerPool): Promise<void> {
    return this.#command((done) => ({ kind: "stop", pool, done }));
  }

  /** Has the pool look after its workers; not where so much is to be done before that a later one will do. */
  check(pool: HandlerPool): void {
    this.#commandSender.trySend({ kind: "check", pool });
  }

  async #command(make: (done: OneshotSender<true>) => Command): Promise<void> {
    const { sender, receiver } = oneshot<true>();
    await this.#commandSender.send(make(sender));
    await receiver.recv();
  }

  /** One after the other; what takes its time (a worker that finishes) answers later and holds up no other command. */
  async #process(): Promise<void> {
    for await (const command of this.#commandReceiver) {
      const { pool } = command;
      if (command.kind === "check") pool.check();
      else {
        const { done } = command;
        const carriedOut = command.kind === "scale" ? pool.scale(command.workers) : pool.stop();
        void carriedOut.finally(() => done.send(true));
      }
    }
  }
}
