import { createHash } from "node:crypto";
import type { NatsConnection } from "@nats-io/transport-node";
import { encodeBodies } from "../../codec/bodies.ts";
import type { Encoding } from "../../codec/encode.ts";
import { StageError } from "../../errors.ts";
import { NATS_CODES, type NatsConnector } from "../../nats/connection.ts";
import { disconnect } from "../../nats/disconnect.ts";
import type { Batch, Range } from "../../record/index.ts";
import {
  delivered,
  type Marks,
  type Outcome,
  type Recovered,
  rejected,
  retry,
  type Sink,
  type SinkContext,
} from "../../stage/index.ts";
import { HeldRecords } from "./held-records.ts";
import { type Answer, type Outgoing, type Published, Publisher } from "./publisher.ts";
import { formatPlace, type LaneName, placePrefix, type RecordPlace } from "./record-header.ts";
import { type Stored, type TargetOptions, TargetStream } from "./target-stream.ts";

/**
 * Publishes each record as one message and knows, message by message, what the stream holds.
 *
 * ```
 *                         .------------------- write: publish, count answers -------------------.
 *  recover -> connected --|  all stored                     -> delivered                         |-> connected
 *     ^                   |  refused for a known reason     -> retry, or rejected                |
 *     |                   `- silence, a duplicate, somebody else's message -> retry, unknown ----'
 *     '---------------------------------- the pipeline calls recover -----------------'
 * ```
 *
 * Exactly once stands on three legs:
 * - **the chain**: the first message of a write expects the sequence of our last one on the subject, each further one the
 *   id of the one before. Messages of a writer that died or was cut off, and that arrive late, break the chain of the one
 *   that lives, never the order: it reads them, and goes on behind them.
 * - **the header** of each message says what of its origin has ended with it. What lies behind the last committed
 *   sequence is read at each start and after each unknown outcome, and is not published again.
 * - **the message id**: what is sent twice within the duplicate window is stored once.
 *
 * Where others publish into the same stream between our messages, the chain by id breaks all the time (the server knows
 * the last id of the stream only, not of the subject). Then the first message of a write goes ahead alone, and the others
 * follow without a chain for a quarter of the duplicate window, in which their ids say what the chain would have said.
 */

/** How long the sink takes the stream to be shared after somebody came between two of its messages. */
const SHARED_MS = 30_000;

/** Messages that follow one that went ahead, between two looks at the clock. */
const FOLLOWERS = 512;

/** A duplicate window below this gives no time to work in. */
const SHORTEST_WINDOW_MS = 10_000;

/** What headers take of the largest payload, beside names of lanes. */
const HEADER_BYTES = 512;

export interface JetStreamSinkOptions extends TargetOptions {
  readonly encoding: Encoding;
}

/** A message on its way, and what of it is remembered once it is stored. */
interface Planned extends Outgoing {
  readonly mark: Pick<RecordPlace, "range" | "split" | "isLast">;
}

export class JetStreamSink implements Sink {
  readonly #options: JetStreamSinkOptions;
  readonly #context: SinkContext;
  readonly #connector: NatsConnector;
  readonly #isExact: boolean;
  readonly #uuid: string;
  readonly #run: string;
  /** Undefined until the first `recover` has taken the next one. */
  #epoch: number | undefined;
  #connection: NatsConnection | undefined;
  #publisher: Publisher | undefined;
  /** Sequence of the last message on our subject that we know of; 0: none. */
  #subjectSequence = 0;
  /** Everything on the subject up to here is in the settled sets. Undefined: never opened before. */
  #described: number | undefined;
  #created: string | undefined;
  #duplicateWindowMs = 0;
  readonly #held = new HeldRecords();
  #sharedUntilMs = Number.NEGATIVE_INFINITY;
  /** Makes ids new that the server called duplicates although the stream does not hold them. */
  #freshIds = 0;
  #hasWarnedOfStrangers = false;
  #trouble = "it is not connected yet";
  prepare?: () => Promise<Marks>;

  constructor(options: JetStreamSinkOptions, connector: NatsConnector, context: SinkContext) {
    this.#options = options;
    this.#connector = connector;
    this.#context = context;
    this.#isExact = options.exactly_once;
    const { marks, random } = context;
    this.#uuid = textMark(marks.get("uuid")) ?? random.hex(16);
    this.#run = random.hex(8);
    const sequence = marks.get("sequence");
    this.#described = typeof sequence === "number" ? sequence : undefined;
    this.#created = textMark(marks.get("created"));
    if (this.#isExact) this.prepare = async () => this.#marks();
  }

  /** What has been called delivered until now, and where in the stream that ends. */
  #marks(): Marks {
    return { sequence: this.#described ?? 0, created: this.#created ?? "" };
  }

  async recover(): Promise<Recovered> {
    await this.#disconnect("it is connecting");
    const connection = await this.#connector.connect();
    try {
      const target = await TargetStream.of(this.#connector, connection, this.#options);
      const recovered = this.#isExact ? await this.#recoverExactly(target) : await this.#findOnly(target);
      this.#connection = connection;
      this.#publisher = new Publisher({
        connection,
        client: this.#connector.client,
        clock: this.#context.clock,
        subject: this.#options.subject,
      });
      return recovered;
    } catch (error) {
      await disconnect(connection);
      throw error;
    }
  }

  async #findOnly(target: TargetStream): Promise<Recovered> {
    await target.state(this.#context.name);
    return { positions: [] };
  }

  /** @throws StageError: the stream cannot be the target, or another writer has taken the subject. */
  async #recoverExactly(target: TargetStream): Promise<Recovered> {
    const { name, marks, log } = this.#context;
    const state = await target.state(name);
    const last = await target.last();
    const lastSequence = last?.sequence ?? 0;
    const isNew = this.#described === undefined;
    const standsAlone = !isNew && (state.created !== this.#created || state.lastSequence < (this.#described ?? 0));
    // Only a start can go back to what the target holds, and that finds it as it is now.
    if (standsAlone && this.#epoch !== undefined) return { positions: [], standsAlone };
    const from = standsAlone ? 0 : (this.#described ?? lastSequence);
    if (!standsAlone && state.firstSequence > from + 1 && lastSequence > from)
      log.warn(
        { component: name },
        `${name}: the stream has removed messages since the last commit: what was among them can come again after its duplicate window`,
      );
    this.#held.clear();
    let seenEpoch = last?.place?.sink === this.#uuid ? last.place.epoch : 0;
    for await (const stored of target.scan(from, lastSequence)) {
      const { place } = stored;
      this.#refuseOthers(stored);
      if (place?.sink !== this.#uuid) continue;
      seenEpoch = Math.max(seenEpoch, place.epoch);
      this.#held.lane(place.lane).add(place);
    }
    if (this.#epoch === undefined) {
      const stored = marks.get("epoch");
      const epoch = Math.max(typeof stored === "number" ? stored : 0, seenEpoch) + 1;
      // Before the first message can bear it. Dying behind it costs a number.
      const first = isNew ? { sequence: lastSequence, created: state.created } : {};
      await this.#context.saveMarks({ uuid: this.#uuid, epoch, ...first });
      this.#epoch = epoch;
    }
    if (isNew) this.#described = lastSequence;
    // What stands behind `described` is handed over now. It is described only from the next delivered write on, so that
    // no barrier in between can leave it out.
    if (standsAlone) this.#described = 0;
    this.#created = state.created;
    this.#subjectSequence = lastSequence;
    this.#duplicateWindowMs = state.duplicateWindowMs;
    return { positions: this.#held.positions(), standsAlone };
  }

  /** Once it has written, the subject is ours: whoever writes on it as a sink has taken it over. */
  #refuseOthers({ sequence, place }: Stored): void {
    if (this.#epoch === undefined) return;
    const { name, log } = this.#context;
    const { subject, stream } = this.#options;
    if (place === undefined) {
      if (!this.#hasWarnedOfStrangers)
        log.warn(
          { component: name },
          `${name}: somebody else publishes on ${subject} (sequence ${sequence} of ${stream}), which belongs to this sink; it goes on, slowly`,
        );
      this.#hasWarnedOfStrangers = true;
      return;
    }
    const isOurs = place.sink === this.#uuid && (place.epoch < this.#epoch || place.run === this.#run);
    if (isOurs) return;
    throw new StageError(
      "TR_SINK_FENCED",
      name,
      `another sink publishes on ${subject} of stream ${stream} (from sequence ${sequence} on); each sink needs a subject of its own`,
    );
  }

  async write(batch: Batch, options: { signal: AbortSignal; way?: string }): Promise<Outcome> {
    const connection = this.#connection;
    if (this.#publisher === undefined || connection === undefined || connection.isClosed()) {
      const reason = connection === undefined ? this.#trouble : "the connection to NATS ended";
      return retry(reason, { isOutcomeUnknown: true });
    }
    const lane: LaneName = { source: batch.origin.source, file: batch.origin.key, way: options.way ?? "" };
    const planned = this.#plan(batch, lane);
    const largest = (connection.info?.max_payload ?? 1024 * 1024) - HEADER_BYTES - JSON.stringify(lane).length;
    const tooLarge = planned.find(({ body }) => body.length > largest);
    if (tooLarge !== undefined)
      return rejected(`a message of ${tooLarge.body.length} bytes is more than the server takes (${largest})`);
    const failure = await this.#publishAll(planned, lane, options.signal);
    if (failure !== undefined) return failure;
    this.#freshIds = 0;
    if (this.#isExact) {
      this.#held.forgetBelow(lane, batch.ranges.at(-1)?.end ?? 0);
      this.#described = this.#subjectSequence;
    }
    return delivered();
  }

  /** The messages of a batch that the stream does not hold. */
  #plan(batch: Batch, lane: LaneName): Planned[] {
    const prefix = this.#isExact
      ? placePrefix({ sink: this.#uuid, epoch: this.#epoch!, run: this.#run, lane })
      : undefined;
    const held = this.#held.lane(lane);
    // Two ways bring different records with one id, and two sinks may publish the same into one stream.
    const idPrefix = createHash("sha256").update(`${this.#uuid}\0${lane.way}`).digest("hex").slice(0, 12);
    const idSuffix = this.#freshIds === 0 ? "" : `~${this.#epoch ?? 0}.${this.#freshIds}`;
    const bodies = encodeBodies(batch, this.#options.encoding);
    const planned: Planned[] = [];
    let whole: Range | undefined;
    let endBefore = 0;
    for (const [index, { record, body }] of bodies.entries()) {
      const { range, split } = record;
      if (whole === undefined || range.end > whole.end || range.start < whole.start) {
        whole = batch.ranges.find(({ start, end }) => start <= range.start && range.end <= end);
        endBefore = whole?.start ?? range.start;
      }
      // What transforms left out in front of it ends with it. Of a bisected record only the last half has the range.
      const isLast = whole !== undefined && bodies[index + 1]?.record.range.start !== range.start;
      const mark = { range: { start: endBefore, end: range.end }, split, isLast };
      if (isLast) endBefore = range.end;
      if (held.has(record)) continue;
      planned.push({
        id: `${idPrefix}:${record.id}${idSuffix}`,
        body,
        place: prefix === undefined ? undefined : formatPlace(prefix, mark),
        mark,
      });
    }
    return planned;
  }

  /** Undefined: all of them are stored. */
  async #publishAll(planned: readonly Planned[], lane: LaneName, signal: AbortSignal): Promise<Outcome | undefined> {
    const { clock } = this.#context;
    for (let next = 0; next < planned.length; ) {
      const isShared = clock.monotonic() < this.#sharedUntilMs && this.#duplicateWindowMs >= SHORTEST_WINDOW_MS;
      if (!isShared || !this.#isExact) {
        const { stored, failure } = await this.#publish(planned.slice(next), lane, signal, this.#isExact);
        if (failure !== "interrupted") return failure;
        next += stored;
        continue;
      }
      const aheadAtMs = clock.monotonic();
      const ahead = await this.#publish([planned[next]!], lane, signal, true);
      if (ahead.failure !== undefined && ahead.failure !== "interrupted") return ahead.failure;
      next += ahead.stored;
      while (next < planned.length && clock.monotonic() - aheadAtMs < this.#duplicateWindowMs / 4) {
        const { stored, failure } = await this.#publish(planned.slice(next, next + FOLLOWERS), lane, signal, false);
        if (failure !== undefined && failure !== "interrupted") return failure;
        next += stored;
      }
    }
    return undefined;
  }

  /** `interrupted`: others came in between; what is before the message that was refused is stored, nothing behind it. */
  async #publish(
    messages: readonly Planned[],
    lane: LaneName,
    signal: AbortSignal,
    isChained: boolean,
  ): Promise<{ stored: number; failure: Outcome | "interrupted" | undefined }> {
    const { stream, timeout_ms: timeoutMs } = this.#options;
    const expect = isChained ? { stream, lastSubjectSequence: this.#subjectSequence } : undefined;
    const published = await this.#publisher!.publish(messages, { expect, timeoutMs, signal });
    const stored = this.#note(messages, published, lane);
    const failed = published.answers.find((answer) => answer !== undefined && !this.#isGood(answer));
    if (failed !== undefined) return { stored, failure: this.#outcomeOf(failed) };
    if (published.silence === undefined) return { stored, failure: undefined };
    await this.#disconnect(published.silence);
    return { stored, failure: retry(published.silence, { isOutcomeUnknown: true }) };
  }

  #isGood(answer: Answer): boolean {
    return answer.kind === "stored" || (!this.#isExact && answer.kind === "duplicate" && answer.sequence > 0);
  }

  /** Remembers what is stored; gives how many. */
  #note(messages: readonly Planned[], { answers }: Published, lane: LaneName): number {
    if (!this.#isExact) return 0;
    const held = this.#held.lane(lane);
    let stored = 0;
    for (const [index, answer] of answers.entries()) {
      if (answer?.kind !== "stored") continue;
      stored += 1;
      held.add(messages[index]!.mark);
      this.#subjectSequence = Math.max(this.#subjectSequence, answer.sequence);
    }
    return stored;
  }

  #outcomeOf(answer: Answer): Outcome | "interrupted" {
    const { subject, stream } = this.#options;
    switch (answer.kind) {
      case "nobody":
        return retry(`no stream takes ${subject} at the moment`, { isOutcomeUnknown: true });
      case "duplicate":
        // A proof of nothing: only the stream itself says what it holds.
        this.#freshIds += 1;
        return retry("the server has seen a message id before; the stream is read", { isOutcomeUnknown: true });
      case "refused":
        break;
      default:
        return retry("an answer that makes no sense", { isOutcomeUnknown: true });
    }
    switch (answer.code) {
      case NATS_CODES.wrongLastMessageId:
        this.#sharedUntilMs = this.#context.clock.monotonic() + SHARED_MS;
        return "interrupted";
      case NATS_CODES.wrongLastSequence:
        return retry(`the subject ${subject} has messages that are not known here (${answer.reason})`, {
          isOutcomeUnknown: true,
        });
      case NATS_CODES.wrongStream:
        return retry(`${subject} goes into another stream than ${stream}`, { isOutcomeUnknown: true });
      case NATS_CODES.messageTooLarge:
        return rejected(`stream ${stream}: ${answer.reason}`);
      default:
        return retry(`stream ${stream}: ${answer.reason}`);
    }
  }

  async #disconnect(why: string): Promise<void> {
    this.#trouble = why;
    const connection = this.#connection;
    this.#publisher?.close();
    this.#publisher = undefined;
    this.#connection = undefined;
    if (connection !== undefined) await disconnect(connection);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#disconnect("it is closed");
  }
}

const textMark = (mark: unknown): string | undefined => (typeof mark === "string" && mark !== "" ? mark : undefined);
