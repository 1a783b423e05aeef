import { expect } from "vitest";
import type { DataRecord, Message } from "../record/index.ts";
import { Batch, Messages } from "../record/index.ts";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { memoryStageChannels } from "../testing/memory-stage-channels.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { Dispatch } from "./dispatch.ts";
import { HandlerPool } from "./handler-pool.ts";
import { type HandlerMessage, Task } from "./task.ts";
import type { Ending, WorkerLink, WorkerListener } from "./worker-link.ts";

/** A worker that does what the test says. */
export class ScriptedWorker implements WorkerLink {
  readonly listener: WorkerListener;
  readonly given: HandlerMessage[] = [];
  wasFinished = false;
  wasTerminated = false;
  wasKilled = false;
  hasEnded = false;
  onGiven: ((at: number) => void) | undefined;
  /** Whether it ends when it is asked to. */
  obeys = true;

  constructor(listener: WorkerListener) {
    this.listener = listener;
  }

  give(message: HandlerMessage): void {
    expect(this.hasEnded).toBe(false);
    this.given.push(message);
    this.onGiven?.(this.given.length - 1);
  }

  finish(): void {
    this.wasFinished = true;
    if (this.obeys) this.end("it exited with code 0", "finished");
  }

  terminate(): void {
    this.wasTerminated = true;
    if (this.obeys) this.end("it was ended by SIGTERM", "signalled");
  }

  kill(): void {
    this.wasKilled = true;
    this.end("it was ended by SIGKILL", "signalled");
  }

  ok(at = this.given.length - 1): void {
    this.listener.answer({ id: this.given[at]!.id, ok: true, events: 0 });
  }

  error(retry = true, at = this.given.length - 1): void {
    this.listener.answer({ id: this.given[at]!.id, ok: false, error: "odd", retry });
  }

  end(reason = "it exited with code 1", how: Ending = "failed"): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.listener.ended(reason, how);
  }
}

export interface BenchOptions {
  /** Messages that the dispatch channel holds; default 2. */
  readonly capacity?: number;
  readonly workers?: number;
  readonly maxInFlight?: number;
  readonly maxAttempts?: number;
  readonly timeoutMs?: number;
  readonly name?: string;
  /** Another bench, with which it shares its process. */
  readonly beside?: PoolBench;
  /** What a worker does at its start; default: it is ready. */
  readonly onStart?: (worker: ScriptedWorker, clock: ManualClock) => void;
}

/** A pool of scripted workers on a clock that stands still; the backoff of messages is 100, 200, ... ms without jitter. */
export class PoolBench {
  readonly clock: ManualClock;
  readonly channels: ReturnType<typeof memoryStageChannels>;
  readonly dispatch: Dispatch;
  readonly pool: HandlerPool;
  /** All there ever were, in the order of their starts. */
  readonly workers: ScriptedWorker[] = [];
  /** `ID done`, `ID refused: REASON`, in order. */
  readonly endings: string[] = [];
  readonly events: string[] = [];
  readonly troubles: (string | undefined)[] = [];
  failures = 0;
  alive = 0;

  private constructor(options: BenchOptions) {
    this.clock = options.beside?.clock ?? new ManualClock();
    this.channels = options.beside?.channels ?? memoryStageChannels(options.capacity ?? 2, { clock: this.clock });
    const random = new SeededRandom(1);
    const { clock, channels } = this;
    this.dispatch = Dispatch.shared({ channels, clock, random, log: silentLogger });
    this.pool = new HandlerPool({
      name: options.name ?? "work",
      start: (listener) => {
        const worker = new ScriptedWorker(listener);
        this.workers.push(worker);
        queueMicrotask(() => (options.onStart ?? (() => listener.ready()))(worker, clock));
        return worker;
      },
      maxInFlight: options.maxInFlight ?? 1,
      timeoutMs: options.timeoutMs ?? 1000,
      maxAttempts: options.maxAttempts ?? 3,
      backoff: { initialMs: 100, maxMs: 10_000, jitter: 0 },
      graceMs: 500,
      dispatch: this.dispatch,
      clock,
      random,
      log: silentLogger,
      events: { emit: (name) => this.events.push(name) },
      onAlive: () => {
        this.alive += 1;
      },
      onTrouble: (reason) => this.troubles.push(reason),
    });
    this.dispatch.join(this.pool);
  }

  static async start(options: BenchOptions = {}): Promise<PoolBench> {
    const bench = new PoolBench(options);
    await bench.dispatch.scale(bench.pool, options.workers ?? 1);
    await bench.clock.settle();
    return bench;
  }

  /** A message by the text of its line; its id in endings is that text. */
  task(text: string, record: DataRecord = linesBatch("in", text, 0, [text]).records[0]!): Task {
    return new Task(record, {
      done: () => this.endings.push(`${text} done`),
      refused: (_task, reason) => this.endings.push(`${text} refused: ${reason}`),
      failed: () => {
        this.failures += 1;
      },
    });
  }

  offer(text: string): Task {
    const task = this.task(text);
    this.dispatch.offer(this.pool, task);
    return task;
  }

  get newest(): ScriptedWorker {
    return this.workers.at(-1)!;
  }

  /** What the worker has, by its text. */
  holds(worker = this.newest): string[] {
    return worker.given.map(({ event }) => String(event["message"]));
  }

  /** The worker started behind `count` others, once it is there. */
  async worker(count: number): Promise<ScriptedWorker> {
    await this.clock.runUntil(() => this.workers.length > count, { what: `worker ${count + 1} to be started` });
    await this.clock.settle();
    return this.workers[count]!;
  }

  /** The next message that a worker is given, behind so many. */
  async given(worker: ScriptedWorker, count: number): Promise<HandlerMessage> {
    await this.clock.runUntil(() => worker.given.length > count, { what: "a message to be given" });
    return worker.given[count]!;
  }

  async stop(): Promise<void> {
    await this.clock.run(this.dispatch.stop(this.pool));
    await this.clock.run(this.dispatch.leave(this.pool, this.channels));
  }
}

/** A message of a queue that has been read so often. */
export function queueMessage(fields: Message["fields"]): DataRecord {
  const origin = {
    source: "q",
    key: "q",
    kind: "acknowledged" as const,
    recordIdPrefix: "q",
    file: undefined,
  };
  const message: Message = { number: 1, body: Buffer.from("{}"), fields };
  const messages = new Messages([message], { readAtMs: 0, host: "here" });
  return Batch.ofMessages(origin, messages, { start: 1, end: 2 }, 2).records[0]!;
}
