import type { Receiver, Sender } from "../../channel/index.ts";
import { JsonMessage } from "../../codec/json-message.ts";
import { ChannelClosedError, toError } from "../../errors.ts";
import type { KafkaConnector } from "../../kafka/client.ts";
import { isMove } from "../../kafka/failure.ts";
import { type Fetched, fetchCommitted } from "../../kafka/fetch.ts";
import type { Memory } from "../../record/batch.ts";
import { Batch, Messages } from "../../record/index.ts";
import { Bond } from "../../runtime/bond.ts";
import { unlessAborted } from "../../runtime/unless-aborted.ts";
import { type Source, type SourceContext, type SourceFile, Upstream } from "../../stage/index.ts";
import { type Assigned, GroupMembership, type GroupOptions } from "./group.ts";
import { OwnedPartition, partitionKey } from "./partition.ts";

/**
 * Reads partitions of topics as a member of a consumer group.
 *
 * ```
 * join -> assigned: where to start? -> fetch -> batch -> pipeline ... ends at every sink, committed here -> group offset
 *           ^                                                                                  |
 *           '------------------ revoked: stop reading, wait for what is in flight -------------'
 * ```
 *
 * Each partition is an origin, in offsets, and its positions are ours, per sink. The group's offset follows behind our own
 * commit: for the tools that show lag, and for the agent that gets the partition next. **Where a partition starts**: at
 * our own position or at the group's offset, whichever is further. Ours is further after a kill between the two commits;
 * the group's is, where another agent had the partition since.
 */

/** How long a fetch waits for the first byte. */
const MAX_WAIT_MS = 500;

/** How often the group is told how far we are. */
const GROUP_COMMIT_MS = 200;

/**
 * A partition whose broker ends, or that moves to another one, cannot be read for a moment. So long the membership is kept: to
 * leave the group and come back would move all partitions of all its members.
 */
const PATIENCE_MS = 10_000;

/** A shorter one is not worth telling. */
const A_MOMENT_MS = 1000;

/** Time for the others to find a leader, between two attempts. */
const LEADERS_MS = 100;

/** What looks whether something has settled sleeps for so long. */
const LOOK_MS = 10;

/** A source that ends waits so long for the group. */
const LEAVE_MS = 3000;

export interface KafkaSourceOptions extends GroupOptions {
  readonly read_from: "beginning" | "end";
  readonly max_fetch_bytes: number;
}

/** Timestamps of ListOffsets with a meaning of their own (Kafka protocol, "ListOffsets"). */
const LATEST = -1n;
const EARLIEST = -2n;

export class KafkaSource implements Source {
  readonly output: Receiver<Batch>;
  readonly #sender: Sender<Batch>;
  readonly #options: KafkaSourceOptions;
  readonly #connector: KafkaConnector;
  readonly #context: SourceContext;
  readonly #upstream: Upstream;
  readonly #owned = new Map<string, OwnedPartition>();
  /** Partitions as we had them last in this run: what of them was sent is on its way. */
  readonly #before = new Map<string, OwnedPartition>();
  #group: GroupMembership | undefined;
  /** One change of what we own after the other. */
  #changing: Promise<void> = Promise.resolve();
  #isOnce = false;
  #hasAssignment = false;
  /** Brokers whose last fetch failed: since when, and why. */
  readonly #failing = new Map<number, { readonly sinceMs: number; readonly reason: string }>();

  constructor(options: KafkaSourceOptions, connector: KafkaConnector, context: SourceContext) {
    this.#options = options;
    this.#connector = connector;
    this.#context = context;
    this.#upstream = new Upstream(context, (thrown) => connector.describe(thrown));
    const { sender, receiver } = context.channel();
    this.#sender = sender;
    this.output = receiver;
  }

  async run({ signal, once }: { signal: AbortSignal; once: boolean }): Promise<void> {
    this.#isOnce = once;
    using _closing = this.#sender;
    await this.#upstream.readOn(signal, () => this.#read(signal));
  }

  get trouble(): string | undefined {
    if (this.#upstream.trouble !== undefined) return this.#upstream.trouble;
    const aWhileAgoMs = this.#context.clock.monotonic() - A_MOMENT_MS;
    return [...this.#failing.values()].find(({ sinceMs }) => sinceMs < aWhileAgoMs)?.reason;
  }

  files(): readonly SourceFile[] {
    return [...this.#owned.values()].map(({ key: path, lagBytes }) => ({ path, lagBytes }));
  }

  /** Tells the group of the last commit, and leaves it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#sender.close();
    const group = this.#group;
    this.#group = undefined;
    if (group === undefined) return;
    const stop = new AbortController();
    const late = this.#context.clock.sleep(LEAVE_MS, { signal: stop.signal });
    await Promise.race([this.#tellGroup(group), late]).catch((thrown: unknown) => toError(thrown));
    stop.abort();
    await group.leave(this.#context.clock, LEAVE_MS);
  }

  /** One membership; rejects when it breaks, resolves when the source is to end. */
  async #read(signal: AbortSignal): Promise<void> {
    const bond = new Bond(signal);
    this.#hasAssignment = false;
    this.#failing.clear();
    const group = new GroupMembership(this.#connector, this.#options, {
      revoked: (partitions) => this.#giveUp(group, partitions, true),
      assigned: (partitions) => {
        this.#changing = this.#changing.then(() => this.#take(group, partitions, bond.signal)).catch(bond.fail);
      },
      failed: bond.fail,
    });
    this.#group = group;
    const broken = await bond.hold(async () => {
      // A join knows no signal.
      await unlessAborted(
        group.join().then(() => this.#changing),
        bond.signal,
      );
      if (bond.signal.aborted) throw new Error("it was told to stop while it joined the group");
      this.#upstream.answered();
      await Promise.all([
        this.#fetchAlways(group, bond.signal, bond.end).catch(bond.fail),
        this.#tellAlways(group, bond.signal).catch(bond.fail),
      ]);
    });
    // At the end of the source the membership stays for what is in flight.
    if (broken === undefined) return;
    this.#group = undefined;
    for (const partition of this.#owned.values()) this.#drop(partition);
    await group.leave(this.#context.clock, LEAVE_MS);
    throw broken;
  }

  /** What is ours from now on. */
  async #take(group: GroupMembership, partitions: readonly Assigned[], until: AbortSignal): Promise<void> {
    const names = new Set(partitions.map(({ topic, partition }) => partitionKey(topic, partition)));
    const lost = [...this.#owned.values()].filter(({ key }) => !names.has(key));
    if (lost.length > 0) await this.#giveUp(group, lost, false);
    const added = partitions.filter(({ topic, partition }) => !this.#owned.has(partitionKey(topic, partition)));
    if (added.length > 0) await this.#start(group, added, until);
    this.#hasAssignment = true;
  }

  async #start(group: GroupMembership, added: readonly Assigned[], until: AbortSignal): Promise<void> {
    const { name, positions } = this.#context;
    const committed = await group.committed(added);
    const [first, last] = [await this.#offsets(group, added, EARLIEST), await this.#offsets(group, added, LATEST)];
    for (const [index, { topic, partition }] of added.entries()) {
      const key = partitionKey(topic, partition);
      const [start, end, known] = [first[index]!, last[index]!, committed[index]!];
      if (positions.startOf(key) > end) await this.#startOver(key, end);
      const sentEnd = this.#before.get(key)?.sentEnd ?? 0;
      const own = Math.max(positions.startOf(key), sentEnd > end ? 0 : sentEnd);
      const isNew = own === 0 && known < 0;
      let offset = isNew ? (this.#options.read_from === "end" ? end : start) : Math.max(own, known > end ? 0 : known);
      if (offset < start) {
        if (!isNew && offset > 0) this.#reportGap(key, offset, start);
        offset = start;
      }
      // What another agent has done, what was never wanted, and what is no longer there, has ended at every sink.
      if (offset > own) await positions.save(new Map(), new Map([[key, { start: 0, end: offset }]]));
      const owned = new OwnedPartition(name, { topic, partition }, { offset, groupOffset: known, until });
      if (this.#isOnce) owned.onceEnd = end;
      this.#owned.set(key, owned);
    }
  }

  async #offsets(group: GroupMembership, of: readonly Assigned[], timestamp: bigint): Promise<number[]> {
    const topics = [...new Set(of.map(({ topic }) => topic))];
    const partitionsOf = (topic: string) => of.filter((one) => one.topic === topic).map(({ partition }) => partition);
    const partitions = Object.fromEntries(topics.map((topic) => [topic, partitionsOf(topic)]));
    const offsets = await group.consumer.listOffsets({ topics, partitions, timestamp });
    return of.map(({ topic, partition }) => Number(offsets.get(topic)![partition]!));
  }

  /** The partition ends before our position: its topic was made anew, or it lost its end. */
  async #startOver(key: string, end: number): Promise<void> {
    const { events, positions } = this.#context;
    events.emit(
      "repeat",
      `${key} ends at ${end} although it was read up to ${positions.startOf(key)}; it is read again from its start`,
      { file: key, bytes: 0 },
    );
    await positions.save(new Map([[key, undefined]]));
  }

  #reportGap(key: string, offset: number, first: number): void {
    const message = `${key}: records that were not read are gone from the topic: ${offset} to ${first - 1}`;
    this.#context.events.emit("gap", message, { file: key, offset });
  }

  /**
   * Gives partitions up. `mayFinish`: they are ours until this resolves, so what is in flight ends first, and the group
   * knows it. It is not waited for longer than half a session: then the next owner repeats what was not finished.
   */
  async #giveUp(group: GroupMembership, partitions: readonly Assigned[], mayFinish: boolean): Promise<void> {
    const { clock, positions, log, name } = this.#context;
    const ours = partitions.flatMap(({ topic, partition }) => this.#owned.get(partitionKey(topic, partition)) ?? []);
    for (const partition of ours) this.#drop(partition);
    if (!mayFinish || ours.length === 0) return;
    const deadlineMs = clock.monotonic() + this.#options.session_timeout_ms / 2;
    const open = () => ours.filter(({ key, sentEnd }) => positions.committedOf(key) < sentEnd);
    while (open().length > 0 && clock.monotonic() < deadlineMs) await clock.sleep(LOOK_MS);
    for (const { key } of open())
      log.warn(
        { component: name },
        `${name}: ${key} went to another agent before all of it was delivered here; it repeats that`,
      );
    const done = ours
      .map(({ topic, partition, key }) => ({ topic, partition, offset: positions.committedOf(key) }))
      .filter(({ offset }) => offset > 0);
    if (done.length === 0) return;
    // Where this fails the next owner starts from the last offset that the group knows.
    await group.commit(done).catch((thrown: unknown) => {
      log.warn(
        { component: name },
        `${name}: the group was not told how far it is: ${this.#connector.describe(thrown)}`,
      );
    });
  }

  /** Nothing more of it is read or sent. */
  #drop(partition: OwnedPartition): void {
    partition.give();
    this.#owned.delete(partition.key);
    this.#before.set(partition.key, partition);
  }

  async #fetchAlways(group: GroupMembership, signal: AbortSignal, end: () => void): Promise<void> {
    const { clock } = this.#context;
    const busy = new Map<number, Promise<void>>();
    let failure: unknown;
    while (!signal.aborted) {
      if (failure !== undefined) throw failure;
      if (this.#isOnce && this.#hasReadAll()) return end();
      const byLeader = await this.#byLeader(group);
      // Who leads nothing of ours any more is not asked any more.
      for (const leader of this.#failing.keys()) if (!byLeader.has(leader)) this.#failing.delete(leader);
      for (const [leader, partitions] of byLeader) {
        if (busy.has(leader)) continue;
        const fetching = this.#fetch(group, leader, partitions, signal)
          .then(() => void this.#failing.delete(leader))
          .catch(async (thrown: unknown) => {
            if (this.#isBearable(leader, thrown)) await this.#lookForLeaders(group, signal);
            else failure = thrown;
          })
          .finally(() => busy.delete(leader));
        busy.set(leader, fetching);
      }
      if (busy.size > 0) await Promise.race(busy.values());
      else await clock.sleep(LOOK_MS, { signal });
    }
  }

  /** Whether the membership is worth keeping in spite of a failed fetch. */
  #isBearable(leader: number, thrown: unknown): boolean {
    const nowMs = this.#context.clock.monotonic();
    const { sinceMs } = this.#failing.get(leader) ?? { sinceMs: nowMs };
    this.#failing.set(leader, { sinceMs, reason: this.#connector.describe(thrown) });
    return isMove(thrown) && nowMs - sinceMs < PATIENCE_MS;
  }

  /** A moment later; and who leads what is asked anew. Where nobody answers, the next fetch tells. */
  async #lookForLeaders(group: GroupMembership, signal: AbortSignal): Promise<void> {
    await this.#context.clock.sleep(LEADERS_MS, { signal });
    if (signal.aborted) return;
    const asked = group.consumer.metadata({ topics: [...this.#options.topics], forceUpdate: true });
    await unlessAborted(asked, signal).catch((thrown: unknown) => toError(thrown));
  }

  #hasReadAll(): boolean {
    return (
      this.#hasAssignment && [...this.#owned.values()].every(({ offset, onceEnd }) => offset >= (onceEnd ?? Infinity))
    );
  }

  /** Partitions that want more, by the broker that has them. */
  async #byLeader(group: GroupMembership): Promise<Map<number, OwnedPartition[]>> {
    const { positions } = this.#context;
    const metadata = await group.consumer.metadata({ topics: [...this.#options.topics] });
    const byLeader = new Map<number, OwnedPartition[]>();
    for (const partition of this.#owned.values()) {
      const leader = metadata.topics.get(partition.topic)?.partitions[partition.partition]?.leader ?? -1;
      if (leader < 0 || !positions.hasRoom(partition.key)) continue;
      const others = byLeader.get(leader);
      if (others === undefined) byLeader.set(leader, [partition]);
      else others.push(partition);
    }
    return byLeader;
  }

  async #fetch(
    group: GroupMembership,
    leader: number,
    partitions: readonly OwnedPartition[],
    signal: AbortSignal,
  ): Promise<void> {
    const { budget } = this.#context;
    const { max_fetch_bytes: maxBytes } = this.#options;
    let lease = await budget.lease(maxBytes, { signal });
    if (lease === undefined) return;
    try {
      const metadata = await group.consumer.metadata({ topics: [...this.#options.topics] });
      const places = partitions.map(({ topic, partition, offset }) => ({
        topic,
        topicId: metadata.topics.get(topic)!.id,
        partition,
        offset: BigInt(offset),
        leader,
      }));
      const limits = { maxWaitMs: this.#isOnce ? 50 : MAX_WAIT_MS, maxBytes, maxPartitionBytes: maxBytes };
      const fetched = await fetchCommitted(group.consumer, leader, places, limits);
      const bytes = fetched.reduce((sum, { records }) => sum + sizeOf(records), 0);
      if (bytes > lease.buffer.length) {
        // A batch of records comes whole, however large it is.
        lease.release();
        lease = await budget.lease(bytes, { signal });
        if (lease === undefined) return;
      }
      let filled = 0;
      for (const one of fetched) {
        const partition = this.#owned.get(partitionKey(one.topic, one.partition));
        if (partition === undefined || !partitions.includes(partition) || signal.aborted) continue;
        if (one.isOutOfRange) throw new Error(`${partition.key} does not hold offset ${partition.offset} any more`);
        const messages = one.records.map(({ offset, value }) => {
          // A copy: what the client has read into is large, and would live as long as one record of it.
          const body = lease!.buffer.subarray(filled, filled + (value?.length ?? 0));
          if (value !== null) body.set(value);
          filled += body.length;
          const beside = { topic: one.topic, partition: one.partition, record_offset: Number(offset) };
          return new JsonMessage(Number(offset), body, beside);
        });
        await this.#send(partition, one, messages, lease);
      }
    } finally {
      lease?.release();
    }
  }

  async #send(
    partition: OwnedPartition,
    { nextOffset, highWatermark, records }: Fetched,
    messages: readonly JsonMessage[],
    memory: Memory,
  ): Promise<void> {
    const { clock, host } = this.#context;
    const end = Number(nextOffset);
    if (end === partition.offset) return;
    const bytes = sizeOf(records);
    const batch = Batch.ofMessages(
      partition.origin,
      new Messages(messages, { readAtMs: clock.now(), host }),
      { start: partition.offset, end },
      bytes,
      memory,
    );
    memory.retain();
    // Before it is sent: who gives the partition up at this moment must know that it may be on its way.
    const sentBefore = partition.sentEnd;
    partition.sentEnd = end;
    try {
      await this.#sender.send(batch, { signal: partition.given });
    } catch (thrown) {
      memory.release();
      partition.sentEnd = sentBefore;
      if (thrown instanceof ChannelClosedError) throw thrown;
      if (partition.given.aborted) return;
      throw thrown;
    }
    partition.offset = end;
    const each = records.length === 0 ? 0 : bytes / records.length;
    partition.lagBytes = Math.round(Math.max(0, Number(highWatermark) - end) * each);
  }

  async #tellAlways(group: GroupMembership, signal: AbortSignal): Promise<void> {
    const { clock, log, name } = this.#context;
    let isTold = true;
    while (!signal.aborted) {
      await clock.sleep(GROUP_COMMIT_MS, { signal });
      if (!group.isSettled) continue;
      try {
        await this.#tellGroup(group);
        isTold = true;
      } catch (thrown) {
        if (isTold && !signal.aborted)
          log.warn(
            { component: name },
            `${name}: the group is not told how far it is: ${this.#connector.describe(thrown)}`,
          );
        isTold = false;
      }
    }
  }

  /** The group's offsets follow our own commits. */
  async #tellGroup(group: GroupMembership): Promise<void> {
    const { positions } = this.#context;
    const moved = [...this.#owned.values()].flatMap((owned) => {
      const offset = Math.min(positions.committedOf(owned.key), owned.sentEnd);
      return offset > owned.groupOffset ? [{ owned, offset }] : [];
    });
    if (moved.length === 0) return;
    await group.commit(moved.map(({ owned: { topic, partition }, offset }) => ({ topic, partition, offset })));
    for (const { owned, offset } of moved) owned.groupOffset = offset;
  }
}

function sizeOf(records: Fetched["records"]): number {
  return records.reduce((sum, { value }) => sum + (value?.length ?? 0), 0);
}
