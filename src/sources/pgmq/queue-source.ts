import type { Receiver, Sender } from "../../channel/index.ts";
import { JsonMessage } from "../../codec/json-message.ts";
import { StageError } from "../../errors.ts";
import { PgFailure } from "../../postgres/failure.ts";
import { leaseBodies } from "../../postgres/leased-bodies.ts";
import { hasPgmq, queueCreatedAt } from "../../postgres/pgmq.ts";
import { PgReader } from "../../postgres/reader.ts";
import type { PgSession } from "../../postgres/session.ts";
import { Batch, Messages } from "../../record/index.ts";
import { recordIdPrefix } from "../../record/origin.ts";
import type { Timer } from "../../runtime/clock.ts";
import { untilWoken } from "../../runtime/until-woken.ts";
import { type Source, type SourceContext, type SourceStatus, Upstream } from "../../stage/index.ts";
import { HeldMessages } from "./held-messages.ts";
import { QueueGiver } from "./queue-giver.ts";
import { QueueNotices } from "./queue-notices.ts";
import { QueueRead } from "./queue-read.ts";

export interface QueueSourceOptions {
  readonly url: string;
  readonly queue: string;
  readonly visibilitySeconds: number;
  readonly batch: number;
  readonly pollIntervalMs: number;
  readonly onAck: "archive" | "delete";
  readonly maxReads: number;
  readonly enablesNotify: boolean;
  readonly timeoutMs: number;
}

/**
 * The first look after one that found something; each that finds nothing doubles the wait, up to the poll interval. PGMQ
 * notifies at most once in 250 ms, so what comes right behind a notified message is found by looking.
 */
const FIRST_LOOK_MS = 5;
const NOTIFY_THROTTLE_MS = 250;

interface ReadMessage {
  readonly id: number;
  readonly reads: number;
  readonly body: string;
}

/**
 * ```
 *  connect, LISTEN --> read --some--> hold, hand on --+--> read on at once while reads come back full
 *    ^                  ^  '--none-- wait: notice, poll, room <-'
 *    |backoff           |
 *    '---- connection lost: the first thing that a new one does is to read, so no lost notification is missed
 * ```
 *
 * Two connections: this one reads and listens; the other (`QueueGiver`) archives, extends and gives back, so that an
 * acknowledgement never waits behind a read.
 */
export class QueueSource implements Source {
  readonly output: Receiver<Batch>;
  readonly #sender: Sender<Batch>;
  readonly #options: QueueSourceOptions;
  readonly #context: SourceContext;
  readonly #upstream: Upstream;
  readonly #reader: PgReader;
  readonly #held: HeldMessages;
  readonly #giver: QueueGiver;
  readonly #wake = new Wake();
  readonly #notice: ReturnType<typeof QueueNotices.listen>;
  #recordIdPrefix: string | undefined;
  #reads = 0;

  constructor(options: QueueSourceOptions, context: SourceContext) {
    this.#options = options;
    this.#context = context;
    this.#upstream = new Upstream(context);
    this.#reader = new PgReader(options, context, { what: `queue ${options.queue}`, find: (on) => this.#listen(on) });
    const { clock } = context;
    this.#held = new HeldMessages(options.batch, () => clock.monotonic());
    this.#giver = new QueueGiver(options, context, this.#held, () => this.#wake.now());
    this.#notice = QueueNotices.listen(context.channels, () => this.#wake.now());
    const { sender, receiver } = context.channel();
    this.#sender = sender;
    this.output = receiver;
  }

  get trouble(): string | undefined {
    return this.#upstream.trouble ?? this.#giver.trouble;
  }

  status(): SourceStatus {
    return { files: 0, lagBytes: 0 };
  }

  async run({ signal, once }: { signal: AbortSignal; once: boolean }): Promise<void> {
    using _closing = this.#sender;
    await this.#upstream.readOn(signal, async () => {
      await using session = await this.#reader.connect(signal);
      await this.#readAll(session, signal, once);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#sender.close();
    await this.#notice.release();
    await this.#giver.close();
  }

  /** On each new connection: finds the queue, and hears from now on what is inserted; the first read finds what was before. */
  async #listen(session: PgSession): Promise<void> {
    const { queue, enablesNotify } = this.#options;
    session.onNotification(() => this.#notice.notify());
    // Whoever waits for a notice must hear that none can come.
    session.onEnd = () => this.#wake.now();
    const { createdAt } = await describeQueue(session, queue, this.#context.name);
    this.#recordIdPrefix = recordIdPrefix(`pgmq\0${queue}`, createdAt);
    if (enablesNotify) await enableNotify(session, queue);
    // What a read notes (the message is taken until then) need not be on the disk before the message is worked on: where a
    // server dies within half a second of it, the message is read again, as after any death of ours.
    await session.commitSoon();
    await session.batch([`LISTEN "pgmq.q_${queue.toLowerCase().replaceAll('"', '""')}.INSERT"`]);
  }

  /** Reads until `signal` aborts; with `once`, until what was there has been read. */
  async #readAll(session: PgSession, signal: AbortSignal, once: boolean): Promise<void> {
    const { batch, pollIntervalMs } = this.#options;
    const { clock } = this.#context;
    const last = once ? await this.#lastId(session) : Number.POSITIVE_INFINITY;
    let lookMs = FIRST_LOOK_MS;
    while (!signal.aborted) {
      if (session.trouble !== undefined) throw new PgFailure(session.trouble, { kind: "passing" });
      const wanted = Math.min(batch, this.#held.room);
      if (wanted === 0) {
        // The queue is there; it is we who ask nothing of it. An acknowledgement wakes; the limit itself moves with time.
        this.#upstream.answered();
        await this.#wake.wait(signal, clock, 100);
        continue;
      }
      const messages = await this.#read(session, wanted);
      this.#upstream.answered();
      await this.#handOn(messages, signal);
      if (once && (messages.length === 0 || messages[0]!.id > last)) return;
      if (messages.length === wanted) continue;
      lookMs = messages.length > 0 ? FIRST_LOOK_MS : Math.min(pollIntervalMs, lookMs * 2);
      if (!once) await this.#wake.wait(signal, clock, Math.min(pollIntervalMs, lookMs));
    }
  }

  async #lastId(session: PgSession): Promise<number> {
    const { rows } = await session.query("SELECT total_messages, queue_length FROM pgmq.metrics($1)", [
      this.#options.queue,
    ]);
    return rows[0]?.[1] === "0" ? -1 : Number(rows[0]?.[0] ?? 0);
  }

  async #read(session: PgSession, wanted: number): Promise<ReadMessage[]> {
    const { queue, visibilitySeconds } = this.#options;
    const { rows } = await session.query("SELECT msg_id, read_ct, message FROM pgmq.read($1, $2, $3)", [
      queue,
      visibilitySeconds,
      wanted,
    ]);
    const messages = rows.map(([id, reads, body]) => ({ id: Number(id), reads: Number(reads), body: body ?? "null" }));
    // The statement orders what it picks, not what it returns.
    return messages.sort((a, b) => a.id - b.id);
  }

  /** What cannot be handed on any more is given back to the queue. */
  async #handOn(read: readonly ReadMessage[], signal: AbortSignal): Promise<void> {
    if (read.length === 0) return;
    const { maxReads, visibilitySeconds } = this.#options;
    const visibleAtMs = this.#context.clock.monotonic() + visibilitySeconds * 1000;
    const fresh = read.filter(({ id }) => this.#held.hold(id, visibleAtMs));
    if (fresh.length === 0) return;
    this.#giver.watch();
    const spent = fresh.filter(({ reads }) => maxReads > 0 && reads > maxReads);
    const good = spent.length === 0 ? fresh : fresh.filter(({ reads }) => !(maxReads > 0 && reads > maxReads));
    if (good.length > 0) await this.#send(good, signal);
    for (const message of spent) await this.#deadLetter(message, signal);
  }

  async #send(messages: readonly ReadMessage[], signal: AbortSignal): Promise<void> {
    const batch = await this.#batchOf(messages, signal);
    try {
      if (batch !== undefined) return await this.#sender.send(batch, { signal });
    } catch (thrown) {
      batch?.memory.release();
      if (!signal.aborted) throw thrown;
    }
    await this.#giveBack(messages);
  }

  /** The source ends, perhaps long before the process (a reload): nobody may hold what nobody will work on. */
  async #giveBack(messages: readonly ReadMessage[]): Promise<void> {
    // Where it fails they are given back at the end, or by their time-out.
    await this.#giver.giveBack(messages.map(({ id }) => id)).catch(() => {});
  }

  /** Undefined: given up while it waited for memory. */
  async #batchOf(messages: readonly ReadMessage[], signal: AbortSignal): Promise<Batch | undefined> {
    const { budget, clock, host, name } = this.#context;
    const leased = await leaseBodies(
      messages.map(({ body }) => body),
      budget,
      signal,
    );
    if (leased === undefined) return undefined;
    const parsed = messages.map(
      ({ id, reads }, index) => new JsonMessage(id, leased.bodies[index]!, { message_id: id, read_count: reads }),
    );
    const ids = messages.map(({ id }) => id);
    this.#reads += 1;
    const origin = new QueueRead(
      { source: name, key: `${this.#options.queue}#${this.#reads}`, recordIdPrefix: this.#recordIdPrefix! },
      ids,
      (id) => this.#giver.done(id),
    );
    return Batch.ofMessages(
      origin,
      new Messages(parsed, { readAtMs: clock.now(), host }),
      { start: ids[0]!, end: ids.at(-1)! + 1 },
      leased.bytes,
      leased.memory,
    );
  }

  async #deadLetter(message: ReadMessage, signal: AbortSignal): Promise<void> {
    const batch = await this.#batchOf([message], signal);
    if (batch === undefined) return this.#giveBack([message]);
    const attempts = message.reads - 1;
    const reason = `it was read ${attempts} times and never delivered (max_reads = ${this.#options.maxReads})`;
    if (!(await this.#context.deadLetter(batch, reason, attempts, { signal })) && !signal.aborted)
      throw new Error(`message ${message.id} could not be dead-lettered`);
  }
}

/**
 * Looks whether the queue is there.
 * @throws StageError: it is not. PgFailure
 */
export async function describeQueue(
  session: PgSession,
  queue: string,
  component: string,
): Promise<{ readonly createdAt: number }> {
  const refuse = (message: string) => new StageError("TR_STAGE_OPEN", component, message);
  if (!(await hasPgmq(session))) throw refuse("the database has no PGMQ (CREATE EXTENSION pgmq)");
  const createdAt = await queueCreatedAt(session, queue);
  if (createdAt === undefined) throw refuse(`there is no queue "${queue}"; make it by SELECT pgmq.create('${queue}')`);
  return { createdAt: Number(createdAt) };
}

/** Leaves a trigger that is there alone, unless the table of throttles has forgotten it: that one does not survive a crash. */
async function enableNotify(session: PgSession, queue: string): Promise<void> {
  await session.query(
    "SELECT pgmq.enable_notify_insert($1, $2) WHERE NOT EXISTS " +
      "(SELECT 1 FROM pgmq.notify_insert_throttle WHERE queue_name = $1)",
    [queue, NOTIFY_THROTTLE_MS],
  );
}

/** Something to look at: whoever waits goes on, and whoever comes next does not wait. */
class Wake {
  #isPending = false;
  #waiter: (() => void) | undefined;

  now(): void {
    this.#isPending = true;
    this.#waiter?.();
  }

  async wait(signal: AbortSignal, clock: SourceContext["clock"], limitMs: number): Promise<void> {
    if (!this.#isPending) {
      let timer: Timer | undefined;
      await untilWoken(signal, (wake) => {
        timer = clock.after(limitMs, wake);
        this.#waiter = wake;
      });
      timer?.cancel();
    }
    this.#waiter = undefined;
    this.#isPending = false;
  }
}
