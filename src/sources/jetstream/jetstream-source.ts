import type { ConsumerInfo } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import type { Receiver, Sender } from "../../channel/index.ts";
import { ChannelClosedError } from "../../errors.ts";
import type { NatsConnector } from "../../nats/connection.ts";
import { disconnect } from "../../nats/disconnect.ts";
import { Batch, Messages, type Origin } from "../../record/index.ts";
import { streamOrigin } from "../../record/origin.ts";
import { Bond } from "../../runtime/bond.ts";
import { JoinedMemory } from "../../runtime/joined-memory.ts";
import { unlessAborted } from "../../runtime/unless-aborted.ts";
import { untilWoken } from "../../runtime/until-woken.ts";
import { type Source, type SourceContext, type SourceFile, Upstream } from "../../stage/index.ts";
import { Arrivals, type Group, releaseGroup } from "./arrivals.ts";
import { Puller, type PullRequest } from "./puller.ts";
import { type ConsumerOptions, SourceConsumer } from "./source-consumer.ts";
import { Unacked } from "./unacked.ts";

/**
 * Reads a stream through a durable pull consumer.
 *
 * ```
 * lease -> pull -> arrivals -> batch -> pipeline ... ends at every sink, committed -> +ACK
 *   |        ^         |                                  |
 *   '--------'         '- delivered too often -> dead letters, committed -> +ACK
 * ```
 *
 * The origin is the stream, in sequence numbers, and positions of it are kept: so what was delivered into a sink and
 * killed before its acknowledgement is not repeated when the server delivers it again. An acknowledgement goes out only
 * behind the commit. Several agents may pull from one consumer; what they have in flight are holes in each other's
 * positions, closed once the consumer's ack floor has passed them.
 */

/** Pulls under way at once: while one is being sent on, the other arrives. */
const PULLS = 2;

/** How long a pull waits for messages. */
const EXPIRES_MS = 5000;

/** Pulls in a row while the settled set is at its limit of ranges, each of which may add one; then they become rare. */
const MAX_CROWDED_PULLS = 2000;

/** How often it is looked whether something can be acknowledged. */
const ACK_INTERVAL_MS = 50;

/** How often the ack floor is asked for, while there are holes; and the lag, always. */
const HOLES_INTERVAL_MS = 200;
const INFO_INTERVAL_MS = 5000;

/** To tell whether anybody else is at work: this many quiet looks in a row, of so many, so far apart. */
const QUIET_LOOKS = 3;
const ALONE_LOOKS = 8;
const ALONE_MS = 100;

const ACK = Buffer.from("+ACK");
const NAK = Buffer.from("-NAK");
const WORKING = Buffer.from("+WPI");

export interface JetStreamSourceOptions extends ConsumerOptions {
  readonly read_from: "beginning" | "end";
  readonly max_deliver: number;
  readonly batch: number;
  readonly max_batch_bytes: number;
}

/** What lasts as long as one connection. */
interface Session {
  readonly connection: NatsConnection;
  readonly consumer: SourceConsumer;
  readonly puller: Puller;
  readonly origin: Origin;
  readonly arrivals: Arrivals;
  /** Beyond so many deliveries a message is a dead letter; 0: never. */
  readonly maxDeliver: number;
  /** A message delivered so often is tried alone: its neighbours must not be counted with it. 0: never. */
  readonly suspectDeliveries: number;
  /** Aborts when the source ends or the connection does. */
  readonly signal: AbortSignal;
}

export class JetStreamSource implements Source {
  readonly output: Receiver<Batch>;
  readonly #sender: Sender<Batch>;
  readonly #options: JetStreamSourceOptions;
  readonly #connector: NatsConnector;
  readonly #context: SourceContext;
  readonly #upstream: Upstream;
  readonly #unacked = new Unacked();
  #session: Session | undefined;
  #key: string | undefined;
  #wakeSending: (() => void) | undefined;
  readonly #wakePulling: (() => void)[] = [];
  #isSending = false;
  /** Only one message is asked for at a time: some have been delivered suspiciously often. */
  #isCareful = false;
  #lagBytes = 0;

  constructor(options: JetStreamSourceOptions, connector: NatsConnector, context: SourceContext) {
    this.#options = options;
    this.#connector = connector;
    this.#context = context;
    this.#upstream = new Upstream(context);
    const { sender, receiver } = context.channel();
    this.#sender = sender;
    this.output = receiver;
  }

  async run({ signal, once }: { signal: AbortSignal; once: boolean }): Promise<void> {
    using _closing = this.#sender;
    await this.#upstream.readOn(signal, () => this.#read(signal, once));
  }

  get trouble(): string | undefined {
    return this.#upstream.trouble;
  }

  files(): readonly SourceFile[] {
    const { stream, consumer } = this.#options;
    return [{ path: `${stream}/${consumer}`, lagBytes: this.#lagBytes }];
  }

  /** Acknowledges what the last commit covers, and gives the rest back, so that others need not wait for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#sender.close();
    const session = this.#session;
    this.#session = undefined;
    if (session === undefined) return;
    const { connection } = session;
    try {
      if (!connection.isClosed()) {
        this.#acknowledge(session);
        for (const reply of this.#unacked.replies()) connection.publish(reply, NAK);
        await Promise.race([connection.flush(), this.#context.clock.sleep(1000)]);
      }
    } finally {
      await disconnect(connection);
    }
  }

  /** One connection's worth of reading; rejects when it breaks, resolves when the source is to end. */
  async #read(signal: AbortSignal, once: boolean): Promise<void> {
    const connection = await this.#connector.connect();
    const bond = new Bond(signal);
    const { end, fail } = bond;
    void connection.closed().then((error) => fail(error ?? new Error("the connection to NATS ended")));
    const broken = await bond.hold(async () => {
      const session = await this.#open(connection, bond.signal);
      this.#session = session;
      this.#upstream.answered();
      const loops = [
        this.#sendOn(session, end).catch(fail),
        this.#acknowledgeAlways(session).catch(fail),
        ...Array.from({ length: PULLS }, (_, index) => this.#pullAlways(session, index === 0, once).catch(fail)),
      ];
      if (once) loops.push(this.#untilRead(session, end).catch(fail));
      await Promise.all(loops);
      for (const group of session.arrivals.takeAll()) {
        releaseGroup(group);
        this.#giveBack(session, group);
      }
    });
    this.#session?.puller.close();
    // At the end of the source it stays open for the last acknowledgements.
    if (broken === undefined) return;
    this.#session = undefined;
    await disconnect(connection);
    throw broken;
  }

  async #open(connection: NatsConnection, signal: AbortSignal): Promise<Session> {
    const { name, clock, positions } = this.#context;
    const { stream, consumer: consumerName, read_from: readFrom, max_deliver: wanted } = this.#options;
    const consumer = new SourceConsumer(
      this.#connector,
      await this.#connector.manager(connection),
      this.#options,
      name,
    );
    const { created, state } = await consumer.stream();
    // A stream that was deleted and made again counts from 1 again: it is another one.
    const key = `${stream}@${created}`;
    if (this.#key !== key) this.#unacked.clear();
    this.#key = key;
    const isNew = positions.startOf(key) === 0;
    if (positions.startOf(key) > state.last_seq + 1) await this.#startOver(key, state.last_seq);
    if (isNew && readFrom === "end") await this.#skipTo(key, state.last_seq + 1);
    const start = positions.startOf(key);
    if (start > 1 && state.first_seq > start && state.messages > 0) this.#reportGap(key, start, state.first_seq);
    const info = await consumer.find(start);
    // Sequences begin at 1: that number 0 has ended says that we were here, before anything else is committed.
    await this.#skipTo(key, info.ack_floor.stream_seq + 1);
    // Where we were before, what is not acknowledged is probably ours.
    const wasHere = start > 0 && info.num_ack_pending > 0;
    if (wasHere && (await this.#isAlone(consumer, info, signal))) await consumer.handOutAgain(info, clock, signal);
    const { max_deliver: serverLimit = -1 } = info.config;
    const limits = [wanted, serverLimit - 1].filter((limit) => limit > 0);
    const maxDeliver = limits.length === 0 ? 0 : Math.min(...limits);
    this.#isCareful = maxDeliver > 0 && info.num_ack_pending > 0;
    return {
      connection,
      consumer,
      puller: new Puller({ connection, client: this.#connector.client, clock, stream, consumer: consumerName }),
      origin: streamOrigin("replayable", name, key),
      arrivals: new Arrivals(positions.startOf(key)),
      maxDeliver,
      suspectDeliveries: maxDeliver === 0 ? 0 : Math.max(2, Math.ceil(maxDeliver / 2)),
      signal,
    };
  }

  /** Nobody else pulls, and nothing moves: looked at for a while, since a consumer that is at work need not be waiting. */
  async #isAlone(consumer: SourceConsumer, found: ConsumerInfo, signal: AbortSignal): Promise<boolean> {
    let quiet = 0;
    // The server needs a moment to notice that our last run, or connection, is gone.
    for (let looks = 0; looks < ALONE_LOOKS && quiet < QUIET_LOOKS && !signal.aborted; looks += 1) {
      await this.#context.clock.sleep(ALONE_MS, { signal });
      const info = await consumer.info();
      const isQuiet =
        info.num_waiting === 0 &&
        info.delivered.consumer_seq === found.delivered.consumer_seq &&
        info.ack_floor.consumer_seq === found.ack_floor.consumer_seq;
      if (info.delivered.consumer_seq !== found.delivered.consumer_seq) return false;
      quiet = isQuiet ? quiet + 1 : 0;
    }
    return quiet === QUIET_LOOKS;
  }

  /** The stream ends before our position: restored, or it lost its end. */
  async #startOver(key: string, lastSequence: number): Promise<void> {
    const { events, positions } = this.#context;
    const start = positions.startOf(key);
    events.emit(
      "repeat",
      `the stream ${this.#options.stream} ends at ${lastSequence} although it was read up to ${start - 1}; it is read again from its start`,
      { file: key, bytes: 0 },
    );
    await positions.save(new Map([[key, undefined]]));
  }

  #reportGap(key: string, start: number, first: number): void {
    this.#context.events.emit(
      "gap",
      `the stream ${this.#options.stream} has removed messages that were not read: ${start} to ${first - 1}`,
      { file: key, offset: start },
    );
  }

  /** Everything below `end` needs not be read by us: it was acknowledged, here or by another agent. */
  async #skipTo(key: string, end: number): Promise<void> {
    const { positions } = this.#context;
    if (end > positions.startOf(key)) await positions.save(new Map(), new Map([[key, { start: 0, end }]]));
  }

  async #pullAlways(session: Session, isFirst: boolean, once: boolean): Promise<void> {
    const { puller, origin, signal } = session;
    const { budget, positions, clock } = this.#context;
    let isTooSmall = false;
    let crowdedPulls = 0;
    while (!signal.aborted) {
      const mustWait = () => this.#isCareful && (!isFirst || this.#unacked.count > 0);
      while (!signal.aborted && mustWait()) await clock.sleep(ACK_INTERVAL_MS, { signal });
      if (positions.hasRoom(origin.key)) crowdedPulls = 0;
      else {
        // What fills the holes may be messages that another agent had when it died. They are handed out to whoever asks:
        // if all of us waited for room, nobody would ever ask.
        await clock.sleep(crowdedPulls < MAX_CROWDED_PULLS ? ACK_INTERVAL_MS : EXPIRES_MS, { signal });
        crowdedPulls += 1;
      }
      const isOne = this.#isCareful || isTooSmall;
      const bytes = isOne ? (session.connection.info?.max_payload ?? 1 << 20) : this.#options.max_batch_bytes;
      const lease = await budget.lease(bytes, { signal });
      if (lease === undefined) return;
      let filled = 0;
      // What comes after the pull must not touch memory that is somebody else's by then.
      let isOpen = true;
      try {
        const request: PullRequest = {
          batch: isOne ? 1 : this.#options.batch,
          maxBytes: isOne ? undefined : bytes,
          expiresMs: once ? 0 : EXPIRES_MS,
        };
        const how = await unlessAborted(
          puller.pull(request, (arrival) => {
            if (!isOpen || this.#unacked.isKnown(arrival.sequence, arrival.reply)) return;
            const { sequence, reply, deliveries } = arrival;
            const isSuspect = session.suspectDeliveries > 0 && deliveries >= session.suspectDeliveries;
            this.#isCareful = isSuspect;
            if (deliveries > 1 && positions.isCommitted(origin.key, { start: sequence, end: sequence + 1 })) {
              // Killed between the commit and the acknowledgement.
              session.connection.publish(reply, ACK);
              return;
            }
            const body = lease.buffer.subarray(filled, filled + arrival.body.length);
            body.set(arrival.body);
            filled += arrival.body.length;
            this.#unacked.add(session.arrivals.add(arrival, body, lease, isSuspect));
            this.#wakeSending?.();
          }),
          signal,
        );
        isTooSmall = how === "too_large";
        if (how === "broken" && !signal.aborted) await session.consumer.info();
        if (how === "no_more" && once) await clock.sleep(ACK_INTERVAL_MS, { signal });
      } finally {
        isOpen = false;
        // The next pull begins when what this one brought is on its way.
        while (filled > 0 && !session.arrivals.isEmpty && !signal.aborted)
          await untilWoken(signal, (wake) => this.#wakePulling.push(wake));
        lease.release();
      }
    }
  }

  async #sendOn(session: Session, end: () => void): Promise<void> {
    const { arrivals, signal } = session;
    while (!signal.aborted) {
      const group = arrivals.take();
      for (const wake of this.#wakePulling.splice(0)) wake();
      if (group === undefined) {
        await untilWoken(signal, (wake) => {
          this.#wakeSending = wake;
        });
        this.#wakeSending = undefined;
        // Whatever comes in the same turn of the event loop goes together.
        await new Promise((next) => setImmediate(next));
        continue;
      }
      this.#isSending = true;
      try {
        if (!(await this.#send(session, group))) return end();
      } finally {
        this.#isSending = false;
        releaseGroup(group);
      }
    }
  }

  /** False: the pipeline takes nothing more. */
  async #send(session: Session, group: Group): Promise<boolean> {
    const { origin, signal, maxDeliver } = session;
    const { clock, host, positions } = this.#context;
    const messages = new Messages(group.messages, { readAtMs: clock.now(), host });
    const memory = new JoinedMemory([...group.memories]);
    const batch = Batch.ofMessages(origin, messages, group.ranges, group.bytes, memory);
    try {
      if (maxDeliver > 0 && group.deliveries > maxDeliver) {
        const reason = `delivered ${group.deliveries - 1} times by consumer ${this.#options.consumer} and never acknowledged`;
        if (!(await this.#context.deadLetter(batch, reason, group.deliveries - 1, { signal }))) {
          memory.release();
          this.#giveBack(session, group);
          return true;
        }
      } else await this.#sender.send(batch, { signal });
    } catch (thrown) {
      memory.release();
      this.#giveBack(session, group);
      if (thrown instanceof ChannelClosedError) return false;
      if (signal.aborted) return true;
      throw thrown;
    }
    this.#unacked.addGroup({ ranges: group.ranges, messages: group.unacked });
    const isSettled = () => group.ranges.every((range) => positions.isCommitted(origin.key, range));
    // Nothing else is in flight while one is suspected of killing the agent.
    while (group.isAlone && !isSettled() && !signal.aborted) await clock.sleep(ACK_INTERVAL_MS, { signal });
    return true;
  }

  /** Messages that were not sent on: whoever pulls next gets them. */
  #giveBack({ connection }: Session, { unacked }: Group): void {
    const replies = this.#unacked.drop(unacked);
    if (!connection.isClosed()) for (const reply of replies) connection.publish(reply, NAK);
  }

  async #acknowledgeAlways(session: Session): Promise<void> {
    const { signal, connection, arrivals, origin, consumer } = session;
    const { clock } = this.#context;
    const ackWaitMs = ((await consumer.info()).config.ack_wait ?? this.#options.ack_wait_ms * 1e6) / 1e6;
    let workingAtMs = clock.monotonic();
    let infoAtMs = Number.NEGATIVE_INFINITY;
    let floor = 0;
    while (!signal.aborted) {
      this.#acknowledge(session);
      const nowMs = clock.monotonic();
      if (nowMs - workingAtMs >= ackWaitMs / 3) {
        workingAtMs = nowMs;
        for (const reply of this.#unacked.replies()) connection.publish(reply, WORKING);
      }
      const hasHoles = arrivals.lastHole > floor;
      if (nowMs - infoAtMs >= (hasHoles ? HOLES_INTERVAL_MS : INFO_INTERVAL_MS)) {
        infoAtMs = nowMs;
        const info = await consumer.info();
        floor = info.ack_floor.stream_seq;
        if (hasHoles) await this.#skipTo(origin.key, floor + 1);
        await this.#measureLag(session, info);
      }
      await clock.sleep(Math.min(ACK_INTERVAL_MS, ackWaitMs / 3), { signal });
    }
  }

  /** Messages that wait, at the size that messages of this stream have on the average. */
  async #measureLag({ consumer }: Session, info: ConsumerInfo): Promise<void> {
    const { state } = await consumer.stream();
    const each = state.messages === 0 ? 0 : state.bytes / state.messages;
    this.#lagBytes = Math.round(info.num_pending * each);
  }

  #acknowledge({ connection, origin }: Session): void {
    const { positions } = this.#context;
    const settled = this.#unacked.takeSettled((range) => positions.isCommitted(origin.key, range));
    for (const reply of settled) connection.publish(reply, ACK);
  }

  /** `once`: ends when all that was there has been handed out, also what another run still had in flight. */
  async #untilRead(session: Session, end: () => void): Promise<void> {
    const { consumer, signal, arrivals } = session;
    const { clock } = this.#context;
    const { last_seq: last } = (await consumer.stream()).state;
    while (!signal.aborted) {
      const info = await consumer.info();
      const isHandedOut = info.num_pending === 0 || info.delivered.stream_seq >= last;
      const others = info.num_ack_pending - this.#unacked.count;
      if (isHandedOut && others <= 0 && arrivals.isEmpty && !this.#isSending) return end();
      await clock.sleep(ACK_INTERVAL_MS, { signal });
    }
  }
}
