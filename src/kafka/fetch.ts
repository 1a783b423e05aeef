import type { Consumer } from "@platformatic/kafka";

type FetchResponsePartition = Awaited<ReturnType<Consumer["fetch"]>>["responses"][number]["partitions"][number];
type RecordsBatch = NonNullable<FetchResponsePartition["records"]>[number];

/** Bits of a record batch's attributes (Kafka protocol, "Record Batch"). */
const IS_TRANSACTIONAL = 0x10;
const IS_CONTROL = 0x20;
/** Type of a control record, in the second half of its key. */
const ABORT = 0;

/** `isolation_level` of a fetch: nothing behind the first open transaction, and what was aborted is named. */
const READ_COMMITTED = 1;

/** Where to go on in one partition. */
export interface Place {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
}

/** One committed record. */
interface FetchedRecord {
  readonly offset: bigint;
  readonly timestampMs: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}

/** What a fetch gave of one partition. */
export interface Fetched {
  readonly topic: string;
  readonly partition: number;
  readonly records: readonly FetchedRecord[];
  /** Behind all that was looked at, markers and aborted records included. */
  readonly nextOffset: bigint;
  /** Of the partition's end; -1: not told. */
  readonly highWatermark: bigint;
  readonly logStartOffset: bigint;
  /** The place lies outside of what the partition holds. */
  readonly isOutOfRange: boolean;
}

/** Broker's number of OFFSET_OUT_OF_RANGE. */
const OFFSET_OUT_OF_RANGE = 1;

export interface FetchLimits {
  readonly maxWaitMs: number;
  /** Of the whole answer; its first batch comes whole, whatever its size. */
  readonly maxBytes: number;
  readonly maxPartitionBytes: number;
}

/** The partition of a topic, as the cluster says it. */
export interface KnownPartition {
  readonly topicId: string;
  readonly leader: number;
}

/**
 * Reads committed records of some partitions of one broker. What the client leaves of aborted transactions in its answer
 * is taken out here, by the protocol's own rule (KIP-98, "Consumer"): it knows one aborted transaction per producer and
 * only those that end within the answer.
 */
export async function fetchCommitted(
  consumer: Consumer,
  node: number,
  places: readonly (Place & KnownPartition)[],
  limits: FetchLimits,
): Promise<Fetched[]> {
  const names = new Map(places.map(({ topic, topicId }) => [topicId, topic]));
  const wanted = new Map(places.map((place) => [`${place.topicId}/${place.partition}`, place.offset]));
  const topics = [...names.keys()].map((topicId) => ({
    topicId,
    partitions: places
      .filter((place) => place.topicId === topicId)
      .map(({ partition, offset }) => ({
        partition,
        fetchOffset: offset,
        partitionMaxBytes: limits.maxPartitionBytes,
        currentLeaderEpoch: -1,
        lastFetchedEpoch: -1,
      })),
  }));
  const { maxWaitMs: maxWaitTime, maxBytes } = limits;
  const request = { node, topics, isolationLevel: READ_COMMITTED, minBytes: 1, maxBytes, maxWaitTime };
  const response = await consumer.fetch(request).catch((thrown: unknown) => {
    const partial = responseOf(thrown);
    if (partial === undefined) throw thrown;
    return partial;
  });
  return response.responses.flatMap(({ topicId, partitions }) =>
    partitions.flatMap((partition) => {
      const offset = wanted.get(`${topicId}/${partition.partitionIndex}`);
      // A fetch session may bring partitions that nobody asks for any more.
      return offset === undefined ? [] : [committedOf(names.get(topicId)!, partition, offset)];
    }),
  );
}

/** The answer in a failure whose only reason is that offsets are out of range; undefined for any other failure. */
function responseOf(
  thrown: unknown,
): { responses: { topicId: string; partitions: FetchResponsePartition[] }[] } | undefined {
  if (!(thrown instanceof Error)) return undefined;
  const response = (thrown as { response?: { errorCode: number; responses: never } }).response;
  if (response !== undefined) {
    const { responses, errorCode } = response as {
      errorCode: number;
      responses: { topicId: string; partitions: FetchResponsePartition[] }[];
    };
    const isOnlyRange = responses.every(({ partitions }) =>
      partitions.every(({ errorCode: code }) => code === 0 || code === OFFSET_OUT_OF_RANGE),
    );
    return errorCode === 0 && isOnlyRange ? { responses } : undefined;
  }
  const inner = "errors" in thrown && Array.isArray(thrown.errors) ? (thrown.errors as unknown[]) : [];
  return inner.length === 0 ? undefined : responseOf(inner.at(-1));
}

function committedOf(topic: string, partition: FetchResponsePartition, from: bigint): Fetched {
  const { partitionIndex, errorCode, highWatermark, logStartOffset, records, abortedTransactions } = partition;
  const batches = records ?? [];
  const kept = withoutAborted(batches, abortedTransactions ?? []);
  const found: FetchedRecord[] = [];
  for (const batch of kept) {
    for (const record of batch.records) {
      const offset = batch.firstOffset + BigInt(record.offsetDelta);
      // A batch comes whole, also if the place lies in its middle.
      if (offset < from) continue;
      const timestampMs = Number(batch.firstTimestamp + record.timestampDelta);
      found.push({ offset, timestampMs, key: record.key, value: record.value });
    }
  }
  const last = batches.at(-1);
  const behind = last === undefined ? from : last.firstOffset + BigInt(last.lastOffsetDelta) + 1n;
  return {
    topic,
    partition: partitionIndex,
    records: found,
    nextOffset: behind > from ? behind : from,
    highWatermark,
    logStartOffset,
    isOutOfRange: errorCode === OFFSET_OUT_OF_RANGE,
  };
}

/** Data batches of transactions that were committed, and of none. */
function withoutAborted(
  batches: readonly RecordsBatch[],
  aborted: readonly { readonly producerId: bigint; readonly firstOffset: bigint }[],
): RecordsBatch[] {
  const starts = aborted.toSorted((one, other) => (one.firstOffset < other.firstOffset ? -1 : 1));
  const aborting = new Set<bigint>();
  const kept: RecordsBatch[] = [];
  let next = 0;
  for (const batch of batches) {
    const lastOffset = batch.firstOffset + BigInt(batch.lastOffsetDelta);
    while (next < starts.length && starts[next]!.firstOffset <= lastOffset) {
      aborting.add(starts[next]!.producerId);
      next += 1;
    }
    if ((batch.attributes & IS_CONTROL) !== 0) {
      if (batch.records[0]?.key?.readInt16BE(2) === ABORT) aborting.delete(batch.producerId);
      continue;
    }
    if ((batch.attributes & IS_TRANSACTIONAL) !== 0 && aborting.has(batch.producerId)) continue;
    kept.push(batch);
  }
  return kept;
}
