import type { Admin } from "@platformatic/kafka";
import { KafkaServer, kafkaClient } from "./kafka.ts";
import { eventually } from "./nats.ts";

/** Three brokers in one cluster, every topic replicated to all of them, two of which must hold a record. */
export class KafkaCluster implements AsyncDisposable {
  readonly servers: readonly KafkaServer[];

  private constructor(servers: readonly KafkaServer[]) {
    this.servers = servers;
  }

  static async start(): Promise<KafkaCluster> {
    return new KafkaCluster(await KafkaServer.startAll(3, {}));
  }

  get addresses(): string[] {
    return this.servers.map(({ address }) => address);
  }

  server(id: number): KafkaServer {
    return this.servers.find((server) => server.id === id)!;
  }

  /** Who leads each partition of a topic; -1: nobody at the moment. */
  async leadersOf(topic: string): Promise<number[]> {
    return (await this.#ask(topic)).partitions.map(({ leader }) => leader);
  }

  /** Resolves when every replica of every partition of `topic` is in sync. */
  async untilInSync(topic: string): Promise<void> {
    for (const endMs = Date.now() + 60_000; ; ) {
      const found = await this.#ask(topic).catch(() => undefined);
      if (found?.partitions.every(({ isr, leader }) => leader >= 0 && isr.length === this.servers.length)) return;
      if (Date.now() > endMs) throw new Error(`${topic} is not in sync: ${JSON.stringify(found)}`);
      await new Promise((passed) => setTimeout(passed, 100));
    }
  }

  /**
   * Moves the leadership of partitions to a broker, gracefully: it becomes the first of the replicas, and the controller
   * prefers the first within a second. Resolves when it leads all of them.
   */
  async moveLeader(topic: string, partitions: readonly number[], to: number): Promise<void> {
    const replicas = [to, ...this.servers.map(({ id }) => id).filter((id) => id !== to)];
    const topics = [{ name: topic, partitions: partitions.map((partitionIndex) => ({ partitionIndex, replicas })) }];
    const { alterPartitionReassignmentsV0 } = await kafkaClient();
    await eventually(() =>
      this.#withAdmin(async (admin) => {
        const [connection] = (await admin.connectToBrokers(null)).values();
        await alterPartitionReassignmentsV0.api.async(connection!, 5000, true, topics);
      }),
    );
    for (const endMs = Date.now() + 60_000; ; await new Promise((passed) => setTimeout(passed, 50))) {
      const leaders = await this.leadersOf(topic);
      if (partitions.every((partition) => leaders[partition] === to)) return;
      if (Date.now() > endMs) throw new Error(`broker ${to} does not lead ${partitions} of ${topic}: ${leaders}`);
    }
  }

  #ask(topic: string) {
    return this.#withAdmin(async (admin) => {
      const metadata = await admin.metadata({ topics: [topic], forceUpdate: true });
      return metadata.topics.get(topic)!;
    });
  }

  async #withAdmin<T>(ask: (admin: Admin) => Promise<T>): Promise<T> {
    const { Admin } = await kafkaClient();
    const bootstrapBrokers = this.addresses;
    const admin = new Admin({ clientId: "test", bootstrapBrokers, timeout: 5000, retries: 20, retryDelay: 100 });
    try {
      return await ask(admin);
    } finally {
      await admin.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.servers.map((server) => server[Symbol.asyncDispose]()));
  }
}
