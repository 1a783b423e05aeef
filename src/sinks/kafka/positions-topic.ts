import type { Consumer } from "@platformatic/kafka";
import type { KafkaConnector } from "../../kafka/client.ts";
import { brokerErrors } from "../../kafka/failure.ts";
import { fetchCommitted } from "../../kafka/fetch.ts";
import type { Position } from "../../record/index.ts";
import type { Clock } from "../../runtime/clock.ts";

/**
 * The compacted topic in which transactional sinks keep their positions, each in one partition of it. The newest value of
 * a key counts.
 *
 * ```
 * key                                        value
 * ["claim", <sink>]                          {"epoch": 3, "run": "9f..."}     who may write, newest opening
 * ["position", <sink>, source, file, way]    {"prefix": 0, "ranges": [[5, 9]]}
 * ```
 */

/** Partitions of a positions topic that is made. */
const PARTITIONS = 8;

/** A lane that nobody wrote for so long: its file is finished, and what is settled of it stands in our own store. */
const STALE_MS = 30 * 24 * 3600 * 1000;

const FETCH_BYTES = 1024 * 1024;

export interface LaneName {
  readonly source: string;
  readonly file: string;
  readonly way: string;
}

export interface Claim {
  readonly epoch: number;
  readonly run: string;
}

/** What a sink finds of itself. */
export interface Kept {
  readonly claim: Claim | undefined;
  readonly lanes: readonly { readonly lane: LaneName; readonly value: Position }[];
  /** Keys that are to be removed. */
  readonly stale: readonly Buffer[];
}

export interface PositionRecord {
  readonly topic: string;
  readonly partition: number;
  readonly key: Buffer;
  readonly value?: Buffer;
}

export class PositionsTopic {
  readonly #connector: KafkaConnector;
  readonly #clock: Clock;
  readonly #topic: string;
  readonly #sink: string;
  readonly #timeoutMs: number;
  #partition = 0;
  /** How far it was read. */
  #offset = 0n;
  readonly #values = new Map<string, { readonly value: Buffer; readonly timestampMs: number }>();

  constructor(connector: KafkaConnector, options: { topic: string; sink: string; timeoutMs: number; clock: Clock }) {
    this.#connector = connector;
    this.#topic = options.topic;
    this.#sink = options.sink;
    this.#timeoutMs = options.timeoutMs;
    this.#clock = options.clock;
  }

  /** Makes the topic if it is not there. */
  async ensure(): Promise<void> {
    const admin = new this.#connector.client.Admin({ ...this.#connector.impatient });
    try {
      const configs = [{ name: "cleanup.policy", value: "compact" }];
      await admin.createTopics({ topics: [this.#topic], partitions: PARTITIONS, replicas: -1, configs });
    } catch (thrown) {
      if (!brokerErrors(thrown).has("TOPIC_ALREADY_EXISTS")) throw thrown;
    } finally {
      await admin.close();
    }
  }

  /**
   * What is committed up to the end of the partition as it is now. Transactions that are open there are waited for: behind
   * them nothing can be seen.
   *
   * @param reach `seen`: only what can be seen now, without waiting for anybody.
   */
  async read(consumer: Consumer, reach: "end" | "seen" = "end"): Promise<Kept> {
    consumer.topics.track(this.#topic);
    const metadata = await consumer.metadata({ topics: [this.#topic], forceUpdate: true });
    const known = metadata.topics.get(this.#topic)!;
    this.#partition = Number.parseInt(this.#sink.slice(0, 8), 16) % known.partitionsCount;
    const { leader } = known.partitions[this.#partition]!;
    const end = await this.#offsetAt(consumer, LATEST, reach);
    const start = await this.#offsetAt(consumer, EARLIEST, reach);
    if (this.#offset > end || this.#offset < start) {
      // Made anew, or compacted behind where we stopped: from its start.
      this.#offset = start;
      this.#values.clear();
    }
    const deadlineMs = this.#clock.monotonic() + 3 * this.#timeoutMs;
    while (this.#offset < end) {
      const place = { topic: this.#topic, topicId: known.id, partition: this.#partition, offset: this.#offset, leader };
      const [fetched] = await fetchCommitted(consumer, leader, [place], {
        maxWaitMs: 100,
        maxBytes: FETCH_BYTES,
        maxPartitionBytes: FETCH_BYTES,
      });
      for (const { key, value, timestampMs } of fetched?.records ?? []) this.#take(key, value, timestampMs);
      if (fetched !== undefined) this.#offset = fetched.nextOffset;
      if (this.#offset < end && this.#clock.monotonic() > deadlineMs)
        throw new Error(`${this.#topic} cannot be read to its end: a transaction of another sink stays open`);
    }
    return this.#kept();
  }

  async #offsetAt(consumer: Consumer, timestamp: bigint, reach: "end" | "seen"): Promise<bigint> {
    const partitions = { [this.#topic]: [this.#partition] };
    // Without isolation, also what nobody has committed yet is in front of the end.
    const isolationLevel = reach === "end" ? 0 : 1;
    const offsets = await consumer.listOffsets({ topics: [this.#topic], partitions, timestamp, isolationLevel });
    return offsets.get(this.#topic)![this.#partition]!;
  }

  #take(key: Buffer | null, value: Buffer | null, timestampMs: number): void {
    const name = key?.toString() ?? "";
    if (!name.includes(this.#sink)) return;
    if (value === null) this.#values.delete(name);
    else this.#values.set(name, { value, timestampMs });
  }

  #kept(): Kept {
    let claim: Claim | undefined;
    const lanes: { lane: LaneName; value: Position }[] = [];
    const stale: Buffer[] = [];
    for (const [key, { value, timestampMs }] of this.#values) {
      const [kind, sink, source = "", file = "", way = ""] = JSON.parse(key) as string[];
      if (sink !== this.#sink) continue;
      if (kind === "claim") claim = JSON.parse(value.toString()) as Claim;
      if (kind !== "position") continue;
      if (this.#clock.now() - timestampMs > STALE_MS) {
        stale.push(Buffer.from(key));
        continue;
      }
      const { prefix, ranges } = JSON.parse(value.toString()) as { prefix: number; ranges: [number, number][] };
      lanes.push({
        lane: { source, file, way },
        value: { prefix, ranges: ranges.map(([start, end]) => ({ start, end })) },
      });
    }
    return { claim, lanes, stale };
  }

  claim(claim: Claim): PositionRecord {
    return this.#record(["claim", this.#sink], claim);
  }

  position({ source, file, way }: LaneName, { prefix, ranges }: Position): PositionRecord {
    const value = { prefix, ranges: ranges.map(({ start, end }) => [start, end]) };
    return this.#record(["position", this.#sink, source, file, way], value);
  }

  tombstone(key: Buffer): PositionRecord {
    return { topic: this.#topic, partition: this.#partition, key };
  }

  #record(key: readonly string[], value: object): PositionRecord {
    return {
      topic: this.#topic,
      partition: this.#partition,
      key: Buffer.from(JSON.stringify(key)),
      value: Buffer.from(JSON.stringify(value)),
    };
  }
}

/** Timestamps of ListOffsets with a meaning of their own (Kafka protocol, "ListOffsets"). */
const LATEST = -1n;
const EARLIEST = -2n;
