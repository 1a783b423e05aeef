import type { Consumer, Producer } from "@platformatic/kafka";
import { encodeBodies } from "../../codec/bodies.ts";
import type { Encoding } from "../../codec/encode.ts";
import { StageError, toError } from "../../errors.ts";
import type { KafkaConnector } from "../../kafka/client.ts";
import { brokerErrors } from "../../kafka/failure.ts";
import type { Batch, DataRecord } from "../../record/index.ts";
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
import { LanePositions } from "./lane-positions.ts";
import { type Kept, type LaneName, type PositionRecord, PositionsTopic } from "./positions-topic.ts";
import { type Waiting, WriteQueue } from "./write-queue.ts";

/**
 * Produces records, with or without transactions.
 *
 * ```
 *            transactional                                     not
 * recover    fence, read positions, claim                      connect
 * write      begin - records + positions - commit              records, idempotent, acks = all
 * failure    unknown: recover on a fresh producer              unknown: a fresh producer, sent again
 * ```
 *
 * The order in `recover` matters. A new producer with our transactional id comes first: it fences whoever had it and ends
 * what that one left open, so that nothing can be committed behind what is read. Then the positions are read to the end.
 * Then the claim, the sink's own epoch, is written in a transaction: a sink that was fenced and comes to its `recover`
 * finds a claim that is newer than its own, before it would fence in its turn if it can be seen by then, and gives up for
 * good.
 */

/** Bytes that a record takes beside its value, generously. */
const RECORD_OVERHEAD = 100;

/** Refusals that are about the records. */
const REFUSALS = ["MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD", "INVALID_TIMESTAMP"];

export interface KafkaSinkOptions {
  readonly topic: string;
  readonly transactional: boolean;
  readonly positions_topic: string;
  readonly key_field?: string | undefined;
  readonly compression: "none" | "gzip";
  readonly max_request_bytes: number;
  readonly encoding: Encoding;
  readonly timeout_ms: number;
}

type Transaction = Awaited<ReturnType<Producer["beginTransaction"]>>;

/** As the client takes them. */
interface ToProduce {
  readonly topic: string;
  readonly partition?: number;
  readonly key?: Buffer;
  readonly value?: Buffer;
  readonly headers?: Map<Buffer, Buffer>;
}

/**
 * We know no id from before: give one, and fence whoever had it. The client would say "my id is 0, my epoch is 0", which
 * the broker takes for a producer that was fenced (KIP-360).
 */
const NO_ID_YET = { producerId: -1n, producerEpoch: -1 };

const ID_HEADER = Buffer.from("tailrace-record-id");

export class KafkaSink implements Sink {
  readonly #options: KafkaSinkOptions;
  readonly #connector: KafkaConnector;
  readonly #context: SinkContext;
  readonly #queue = new WriteQueue((writes) => this.#writeTogether(writes));
  readonly #uuid: string;
  readonly #run: string;
  readonly #positions: PositionsTopic;
  readonly #lanes = new LanePositions();
  /** As our own store knows it. */
  #storedEpoch: number;
  /** The target was found to know less than the store; cleared with the sets that say so. */
  #isRewound: boolean;
  /** The newest claim that we have made in this run. */
  #epoch: number | undefined;
  #producer: Producer | undefined;
  #transaction: Transaction | undefined;
  #recovering: Promise<Recovered> | undefined;
  #trouble = "it is not connected yet";
  prepare?: () => Promise<Marks>;
  committed?: () => void;

  constructor(options: KafkaSinkOptions, connector: KafkaConnector, context: SinkContext) {
    this.#options = options;
    this.#connector = connector;
    this.#context = context;
    const { marks, random, clock } = context;
    const uuid = marks.get("uuid");
    this.#uuid = typeof uuid === "string" ? uuid : random.hex(32);
    this.#run = random.hex(8);
    const epoch = marks.get("epoch");
    this.#storedEpoch = typeof epoch === "number" ? epoch : 0;
    this.#isRewound = marks.get("rewound") === true;
    const { positions_topic: topic, timeout_ms: timeoutMs } = options;
    this.#positions = new PositionsTopic(connector, { topic, sink: this.#uuid, timeoutMs, clock });
    if (!options.transactional) return;
    this.prepare = async () => {
      this.#lanes.beginBarrier();
      // After the first `recover`, whose answer is in the sets that are committed with this.
      if (!this.#isRewound || this.#epoch === undefined) return {};
      this.#isRewound = false;
      return { rewound: undefined };
    };
    this.committed = () => this.#lanes.committed();
  }

  /** Several writes fail together, and each asks: one answer is for all of them. */
  recover(): Promise<Recovered> {
    if (this.#producer !== undefined) return Promise.resolve({ positions: this.#lanes.positions });
    this.#recovering ??= this.#recover().finally(() => {
      this.#recovering = undefined;
    });
    return this.#recovering;
  }

  async #recover(): Promise<Recovered> {
    const producer = this.#newProducer();
    try {
      if (this.#options.transactional) return await this.#recoverPositions(producer);
      await producer.metadata({ topics: [this.#options.topic], forceUpdate: true });
      this.#producer = producer;
      return { positions: [] };
    } catch (thrown) {
      await close(producer);
      if (thrown instanceof StageError) throw thrown;
      this.#trouble = this.#connector.describe(thrown);
      throw new Error(this.#trouble, { cause: thrown });
    }
  }

  #newProducer(): Producer {
    const { impatient, client } = this.#connector;
    const producer = new client.Producer({
      ...impatient,
      idempotent: true,
      ...(this.#options.transactional ? { transactionalId: `tailrace-${this.#uuid}` } : {}),
      ...(this.#options.compression === "none" ? {} : { compression: this.#options.compression }),
    });
    // What fails, fails a request too; an event that nobody listens to would end the process.
    producer.on("error", () => {});
    return producer;
  }

  /** @throws StageError `TR_SINK_FENCED` where another run of this sink has claimed the target. */
  async #recoverPositions(producer: Producer): Promise<Recovered> {
    const { impatient, client } = this.#connector;
    // A client of its own to read with; it joins no group.
    const reader: Consumer = new client.Consumer({ ...impatient, groupId: `tailrace-${this.#uuid}` });
    try {
      await producer.metadata({ topics: [this.#options.topic], forceUpdate: true });
      await this.#positions.ensure();
      // Not to the end: a transaction of our own that failed is open there until the next line has ended it.
      this.#refuseNewerClaim(await this.#positions.read(reader, "seen"));
      let transaction = await producer.beginTransaction(NO_ID_YET);
      const kept = await this.#positions.read(reader);
      this.#refuseNewerClaim(kept);
      const found = kept.claim?.epoch ?? 0;
      // Less than our own store knows: the topic was restored, or made anew.
      const standsAlone = found < this.#storedEpoch || this.#isRewound;
      if (standsAlone && this.#epoch !== undefined) {
        // Only a start can go back to what the target holds, and that finds it as it is now.
        await close(producer);
        return { positions: [], standsAlone };
      }
      const epoch = Math.max(found, this.#storedEpoch) + 1;
      if (standsAlone) {
        // Until the sets that follow from it are committed, no later start may take the new claim for a proof of the old ones.
        await this.#context.saveMarks({ rewound: true });
        this.#isRewound = true;
      }
      const tombstones = kept.stale.map((key) => this.#positions.tombstone(key));
      await transaction.send({ messages: [this.#positions.claim({ epoch, run: this.#run }), ...tombstones] as never });
      await transaction.commit();
      // Dying here leaves a claim that is newer than what the store knows: the next one goes beyond it.
      await this.#context.saveMarks({ uuid: this.#uuid, epoch });
      this.#epoch = epoch;
      this.#storedEpoch = epoch;
      transaction = await producer.beginTransaction();
      this.#lanes.restore(kept);
      this.#producer = producer;
      this.#transaction = transaction;
      return { positions: this.#lanes.positions, standsAlone };
    } finally {
      await reader.close(true).catch((thrown: unknown) => toError(thrown));
    }
  }

  #refuseNewerClaim({ claim }: Kept): void {
    if (claim === undefined || this.#epoch === undefined) return;
    if (claim.epoch < this.#epoch || claim.run === this.#run) return;
    throw new StageError(
      "TR_SINK_FENCED",
      this.#context.name,
      `another agent with the same state has taken over topic ${this.#options.topic}; a state directory belongs to one agent`,
    );
  }

  write(batch: Batch, { signal, way = "" }: { signal: AbortSignal; way?: string }): Promise<Outcome> {
    return this.#queue.write(batch, way, signal);
  }

  async #writeTogether(writes: readonly Waiting[]): Promise<readonly Outcome[]> {
    const all = (outcome: Outcome) => writes.map(() => outcome);
    const producer = this.#producer;
    if (producer === undefined) return all(retry(this.#trouble, { isOutcomeUnknown: true }));
    const messages = writes.flatMap(({ batch }) => this.#messagesOf(batch));
    try {
      if (this.#options.transactional) await this.#commit(producer, messages, writes);
      else for (const some of this.#inRequests(messages)) await producer.send({ messages: some as never });
      return all(delivered());
    } catch (thrown) {
      return all(await this.#outcomeOf(thrown, producer, writes));
    }
  }

  /** One transaction: the records, what of their origins ends with them, and the commit. */
  async #commit(producer: Producer, messages: readonly ToProduce[], writes: readonly Waiting[]): Promise<void> {
    const transaction = this.#transaction!;
    const lanes = writes.flatMap(({ batch, way }) =>
      batch.origin.kind === "replayable" && batch.ranges.length > 0
        ? [{ name: { source: batch.origin.source, file: batch.origin.key, way } satisfies LaneName, batch }]
        : [],
    );
    const positions: PositionRecord[] = lanes.map(({ name, batch }) =>
      this.#positions.position(name, this.#lanes.with(name, batch.ranges)),
    );
    for (const some of this.#inRequests([...messages, ...positions]))
      await transaction.send({ messages: some as never });
    // An error from here on says nothing about what the coordinator has done.
    await transaction.commit();
    for (const { name, batch } of lanes) this.#lanes.add(name, batch.ranges);
    // Costs nothing: the producer has its id and epoch.
    this.#transaction = await producer.beginTransaction();
  }

  async #outcomeOf(thrown: unknown, producer: Producer, writes: readonly Waiting[]): Promise<Outcome> {
    const reason = this.#connector.describe(thrown);
    const errors = brokerErrors(thrown);
    const isRefused = REFUSALS.some((refusal) => errors.has(refusal));
    if (isRefused && (await this.#takeBack(producer))) {
      if (writes.length === 1) return rejected(reason);
      this.#queue.separate(writes.length);
      return retry(`one of ${writes.length} batches was refused: ${reason}`);
    }
    this.#trouble = reason;
    this.#producer = undefined;
    this.#transaction = undefined;
    await close(producer);
    return retry(reason, { isOutcomeUnknown: true });
  }

  /** True if nothing of the present transaction counts, and the producer can go on. */
  async #takeBack(producer: Producer): Promise<boolean> {
    if (!this.#options.transactional) return true;
    try {
      await this.#transaction!.abort();
      this.#transaction = await producer.beginTransaction();
      return true;
    } catch {
      return false;
    }
  }

  #messagesOf(batch: Batch): ToProduce[] {
    const { topic, transactional: isTransactional } = this.#options;
    // Records of one file stay in one partition, and so in order.
    const partition = Number.parseInt(batch.origin.recordIdPrefix.slice(0, 8), 16);
    return encodeBodies(batch, this.#options.encoding).map(({ record, body }) => {
      const key = this.#keyOf(record);
      return {
        topic,
        value: body,
        ...(key === undefined ? { partition } : { key }),
        ...(isTransactional ? {} : { headers: new Map([[ID_HEADER, Buffer.from(record.id)]]) }),
      };
    });
  }

  #keyOf({ event }: DataRecord): Buffer | undefined {
    const { key_field: field } = this.#options;
    if (field === undefined) return undefined;
    const value = event[field];
    if (value === undefined || value === null) return undefined;
    return Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
  }

  /** Parts that the broker takes as one batch of records each, whatever partition they go to. */
  #inRequests(messages: readonly ToProduce[]): ToProduce[][] {
    const requests: ToProduce[][] = [];
    let bytes = Number.POSITIVE_INFINITY;
    for (const message of messages) {
      const size = (message.value?.length ?? 0) + (message.key?.length ?? 0) + RECORD_OVERHEAD;
      if (bytes + size > this.#options.max_request_bytes) {
        requests.push([]);
        bytes = 0;
      }
      requests.at(-1)!.push(message);
      bytes += size;
    }
    return requests;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const producer = this.#producer;
    this.#producer = undefined;
    this.#trouble = "it is closed";
    await this.#recovering?.catch((thrown: unknown) => toError(thrown));
    if (producer !== undefined) await close(producer);
  }
}

/** What it has open is given up; an open transaction is ended by the next producer with its id, or by its time-out. */
async function close(producer: Producer): Promise<void> {
  await producer.close(true).catch((thrown: unknown) => toError(thrown));
}
