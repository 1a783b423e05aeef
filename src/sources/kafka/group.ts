import type { Consumer } from "@platformatic/kafka";
import type { KafkaConnector } from "../../kafka/client.ts";
import type { Clock } from "../../runtime/clock.ts";

export interface GroupOptions {
  readonly topics: readonly string[];
  readonly group_id: string;
  readonly session_timeout_ms: number;
  readonly rebalance_timeout_ms: number;
}

/** Topic and partition. */
export interface Assigned {
  readonly topic: string;
  readonly partition: number;
}

export interface GroupListener {
  /**
   * The group wants these back. What is in flight may be finished first: the next owner gets them when this resolves. Heartbeats
   * rest meanwhile, so it must not last as long as the session.
   */
  revoked(partitions: readonly Assigned[]): Promise<void>;
  /** All that is ours now. */
  assigned(partitions: readonly Assigned[]): void;
  /** The group cannot be reached or joined. */
  failed(error: Error): void;
}

const JOIN_RETRIES = 3;

/** Heartbeats in the time of a session. */
const HEARTBEATS = 10;

/**
 * Membership in a consumer group, by the cooperative-sticky protocol (KIP-429): partitions that stay go on being read
 * through a rebalance.
 *
 * ```
 * JoinGroup (owned: a b) -> SyncGroup (yours: a) -> [revoked b: finish, commit] -> JoinGroup (owned: a) -> b goes elsewhere
 * ```
 *
 * The client asks for the metadata of our subscription before each JoinGroup; by then `assignments` says what the last
 * SyncGroup left us. That is the moment in brackets.
 */
export class GroupMembership {
  readonly consumer: Consumer;
  readonly #listener: GroupListener;
  #owned: readonly Assigned[] = [];
  #isJoining = false;

  constructor(connector: KafkaConnector, options: GroupOptions, listener: GroupListener) {
    this.#listener = listener;
    const { session_timeout_ms: sessionTimeout, rebalance_timeout_ms: rebalanceTimeout } = options;
    this.consumer = new connector.client.Consumer({
      ...connector.base,
      // Each step of a join has its own retries, and they multiply; the source tries again by itself.
      retries: JOIN_RETRIES,
      groupId: options.group_id,
      sessionTimeout,
      rebalanceTimeout: Math.max(rebalanceTimeout, sessionTimeout),
      heartbeatInterval: Math.ceil(sessionTimeout / HEARTBEATS),
      // Version 3 of the subscription says what we own and since when.
      protocols: [{ name: "cooperative-sticky", version: 3 }],
      protocolsMetadata: async () => {
        await this.#beforeJoin();
        return Buffer.alloc(0);
      },
    });
    for (const topic of options.topics) this.consumer.topics.track(topic);
    this.consumer.on("consumer:group:join", () => {
      this.#isJoining = false;
      this.#owned = this.#assignments();
      listener.assigned(this.#owned);
    });
    this.consumer.on("consumer:group:rebalance", () => {
      this.#isJoining = true;
    });
    this.consumer.on("error", (error: Error) => listener.failed(error));
    this.consumer.on("consumer:heartbeat:error", () => {});
  }

  async join(): Promise<void> {
    this.#isJoining = true;
    await this.consumer.joinGroup({});
  }

  /** Commits would not be taken, or not be understood, while the group is being formed. */
  get isSettled(): boolean {
    return !this.#isJoining && this.consumer.isActive();
  }

  /** What others see as done. */
  async commit(offsets: readonly (Assigned & { readonly offset: number })[]): Promise<void> {
    await this.consumer.commit({
      offsets: offsets.map(({ topic, partition, offset }) => ({
        topic,
        partition,
        offset: BigInt(offset),
        leaderEpoch: -1,
      })),
    });
  }

  /** What the group knows to be done; -1: nothing yet. */
  async committed(partitions: readonly Assigned[]): Promise<number[]> {
    const topics = [...new Set(partitions.map(({ topic }) => topic))].map((topic) => ({
      topic,
      partitions: partitions.filter((one) => one.topic === topic).map(({ partition }) => partition),
    }));
    const offsets = await this.consumer.listCommittedOffsets({ topics });
    // By the partition's own number, whichever were asked for.
    return partitions.map(({ topic, partition }) => Number(offsets.get(topic)?.[partition] ?? -1n));
  }

  /** Leaves the group, so that others need not wait for the end of the session; gives up after `limitMs`. */
  async leave(clock: Clock, limitMs: number): Promise<void> {
    const stop = new AbortController();
    await Promise.race([this.consumer.close(true), clock.sleep(limitMs, { signal: stop.signal })]).catch(() => {});
    stop.abort();
  }

  async #beforeJoin(): Promise<void> {
    const now = this.#assignments();
    const isStill = new Set(now.map(nameOf));
    const revoked = this.#owned.filter((one) => !isStill.has(nameOf(one)));
    this.#owned = now;
    if (revoked.length > 0) await this.#listener.revoked(revoked);
  }

  #assignments(): Assigned[] {
    return (this.consumer.assignments ?? []).flatMap(({ topic, partitions }) =>
      partitions.map((partition) => ({ topic, partition })),
    );
  }
}

const nameOf = ({ topic, partition }: Assigned): string => `${topic}/${partition}`;
