import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import type { Consumer } from "@platformatic/kafka";
import { fetchCommitted } from "../../src/kafka/fetch.ts";
import { freePorts, passing, ServerProcess, untilConnected } from "./server-process.ts";

const FETCH = fileURLToPath(new URL("../../scripts/fetch-kafka.sh", import.meta.url));

let jars: string | undefined | null;

/** The folder with the broker's jars; fetched at the first call if need be. Undefined: they cannot be had here. */
export function kafkaJars(): string | undefined {
  if (jars === undefined) {
    const run = spawnSync("bash", [FETCH], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
    const folder = run.stdout.trim().split("\n").at(-1) ?? "";
    jars = run.status === 0 && existsSync(folder) ? folder : null;
  }
  return jars ?? undefined;
}

export interface KafkaOptions {
  /** Further lines of `server.properties`. */
  readonly properties?: readonly string[];
  /** Where clients reach it, an IPv4 address of this machine; default: the loopback. */
  readonly address?: string;
  /** Listeners beside the one in clear, each on a port of its own: name and protocol (`SSL`, `SASL_SSL`). */
  readonly listeners?: { readonly [name: string]: string };
  /** Users for SCRAM, and their passwords. */
  readonly users?: { readonly [name: string]: string };
}

/** One real Kafka broker in KRaft mode (broker and controller in one), on free ports, its data in a temporary folder. */
export class KafkaServer extends ServerProcess implements AsyncDisposable {
  readonly id: number;
  readonly #node: KafkaNode;

  private constructor(node: KafkaNode) {
    super();
    this.id = node.id;
    this.#node = node;
  }

  static async start(options: KafkaOptions = {}): Promise<KafkaServer> {
    const [server] = await KafkaServer.startAll(1, options);
    return server!;
  }

  /** So many that form one cluster, everything in it replicated to all of them. */
  static async startAll(count: number, options: KafkaOptions): Promise<KafkaServer[]> {
    const nodes = await planNodes(count, options);
    format(nodes, options.users ?? {});
    const servers = nodes.map((node) => new KafkaServer(node));
    try {
      await Promise.all(servers.map((server) => server.start()));
    } catch (error) {
      await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
      throw error;
    }
    return servers;
  }

  get address(): string {
    return this.addressOf(CLEAR);
  }

  addressOf(listener: string): string {
    return `${this.#node.address}:${this.#node.ports[listener]}`;
  }

  protected override launch(): ChildProcess {
    const { folder, heapMiB } = this.#node;
    const memory = [`-Xmx${heapMiB}m`, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"];
    return spawn(
      "java",
      [
        ...memory,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        `${kafkaJars()}/*`,
        "kafka.Kafka",
        join(folder, CONFIG),
      ],
      { cwd: folder, stdio: ["ignore", "pipe", "pipe"] },
    );
  }

  protected override answer(): Promise<void> {
    return untilConnected(this.#node.ports[CLEAR]!, this.#node.address);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#node.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** The listener in clear, which brokers use among each other. */
const CLEAR = "PLAINTEXT";

const CONFIG = "server.properties";

/** What one broker is made of. */
interface KafkaNode {
  readonly id: number;
  readonly folder: string;
  readonly address: string;
  /** By listener. */
  readonly ports: { readonly [listener: string]: number };
  readonly heapMiB: number;
}

/** Writes the configurations. */
async function planNodes(
  count: number,
  { properties = [], address = "127.0.0.1", listeners = {} }: KafkaOptions,
): Promise<KafkaNode[]> {
  const protocols: { readonly [listener: string]: string } = { [CLEAR]: "PLAINTEXT", ...listeners };
  const names = Object.keys(protocols);
  const ports = await freePorts(count * (names.length + 1));
  const controllers = ports.splice(0, count);
  const replicas = Math.min(3, count);
  return controllers.map((controller, index) => {
    const folder = mkdtempSync(join(tmpdir(), "tailrace-kafka-"));
    const own = Object.fromEntries(names.map((name) => [name, ports.pop()!]));
    const places = names.map((name) => `${name}://${address}:${own[name]}`);
    mkdirSync(join(folder, "data"));
    const lines = [
      "process.roles=broker,controller",
      `node.id=${index + 1}`,
      `controller.quorum.voters=${controllers.map((port, at) => `${at + 1}@127.0.0.1:${port}`).join(",")}`,
      `listeners=${[...places, `CONTROLLER://127.0.0.1:${controller}`].join(",")}`,
      `advertised.listeners=${places.join(",")}`,
      "controller.listener.names=CONTROLLER",
      `inter.broker.listener.name=${CLEAR}`,
      `listener.security.protocol.map=${names.map((name) => `${name}:${protocols[name]},`).join("")}CONTROLLER:PLAINTEXT`,
      `log.dirs=${join(folder, "data")}`,
      `default.replication.factor=${replicas}`,
      `min.insync.replicas=${Math.min(2, replicas)}`,
      `offsets.topic.replication.factor=${replicas}`,
      "offsets.topic.num.partitions=4",
      `transaction.state.log.replication.factor=${replicas}`,
      `transaction.state.log.min.isr=${Math.min(2, replicas)}`,
      "transaction.state.log.num.partitions=4",
      "group.initial.rebalance.delay.ms=0",
      "group.min.session.timeout.ms=1000",
      "auto.create.topics.enable=false",
      // A broker that was killed may come back soon: the controller holds it for alive until then.
      "broker.session.timeout.ms=2000",
      "broker.heartbeat.interval.ms=500",
      // Who has led goes on leading soon after it has come back, and a new first replica takes over: graceful moves.
      "leader.imbalance.check.interval.seconds=1",
      ...properties,
      "",
    ];
    writeFileSync(join(folder, CONFIG), lines.join("\n"));
    return { id: index + 1, folder, address, ports: own, heapMiB: count === 1 ? 384 : 256 };
  });
}

/** A UUID in base64url as Kafka writes it. One that began with a hyphen would be an option to its tool. */
function clusterId(): string {
  const bytes = randomBytes(16);
  bytes[0]! &= 0x7f;
  return bytes.toString("base64url");
}

/** Makes the first node's storage by Kafka's own tool, and the others' from it: they differ in two lines. */
function format([first, ...others]: readonly KafkaNode[], users: { readonly [name: string]: string }): void {
  const scram = Object.entries(users).flatMap(([name, password]) =>
    ["SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((how) => ["--add-scram", `${how}=[name=${name},password=${password}]`]),
  );
  const args = ["format", `--cluster-id=${clusterId()}`, "-c", join(first!.folder, CONFIG), ...scram];
  const made = spawnSync("java", ["-cp", `${kafkaJars()}/*`, "kafka.tools.StorageTool", ...args], { encoding: "utf8" });
  if (made.status !== 0) throw new Error(`Kafka's storage cannot be formatted: ${made.stdout}${made.stderr}`);
  const meta = readFileSync(join(first!.folder, "data", "meta.properties"), "utf8");
  for (const { id, folder } of others) {
    copyFileSync(join(first!.folder, "data", "bootstrap.checkpoint"), join(folder, "data", "bootstrap.checkpoint"));
    const own = meta
      .replace(/^node\.id=.*$/m, `node.id=${id}`)
      .replace(/^directory\.id=.*$/m, `directory.id=${randomBytes(16).toString("base64url")}`);
    writeFileSync(join(folder, "data", "meta.properties"), own);
  }
}

/**
 * All committed records of a topic, as Kafka's own consumer reads them (`read_committed`): one text a record, partition by
 * partition. Takes a Java process of its own.
 */
export async function readTopic(address: string, topic: string): Promise<string[]> {
  const count = (await readCommitted(address, topic)).length;
  // It gives up where nothing comes for three seconds; on a loaded machine it may not even have begun by then.
  for (let tries = 1; ; tries += 1) {
    const texts = await readByConsole(address, topic);
    if (texts.length >= count || tries === 5) return texts;
  }
}

async function readByConsole(address: string, topic: string): Promise<string[]> {
  const args = ["--bootstrap-server", address, "--topic", topic, "--from-beginning", "--timeout-ms", "3000"];
  const child = spawn(
    "java",
    [
      "-Xmx256m",
      "-XX:TieredStopAtLevel=1",
      "-cp",
      `${kafkaJars()}/*`,
      "org.apache.kafka.tools.consumer.ConsoleConsumer",
      ...args,
      "--isolation-level",
      "read_committed",
    ],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(child, "close");
  return Buffer.concat(chunks).toString("utf8").split("\n").slice(0, -1);
}

/** The same by our own reading of the protocol, in no time: of one topic, partition by partition. */
export async function readCommitted(address: string, topic: string): Promise<string[]> {
  await using reader = await CommittedReader.open(address, topic);
  // Who commits is answered before the partitions know of it.
  for (const endMs = Date.now() + 60_000; Date.now() < endMs && !(await reader.isSettled()); ) await passing(20);
  return [...(await reader.read())];
}

/** Reads what is committed to a topic, and at each call what was since. */
export class CommittedReader implements AsyncDisposable {
  readonly #consumer: Consumer;
  readonly #topic: string;
  readonly #texts: string[] = [];
  readonly #offsets = new Map<number, bigint>();

  private constructor(consumer: Consumer, topic: string) {
    this.#consumer = consumer;
    this.#topic = topic;
  }

  static async open(address: string, topic: string): Promise<CommittedReader> {
    const { Consumer } = await kafkaClient();
    const consumer = new Consumer({ clientId: "test", groupId: "test", bootstrapBrokers: [address], timeout: 5000 });
    consumer.topics.track(topic);
    return new CommittedReader(consumer, topic);
  }

  /** Whether no transaction is open in the topic. */
  async isSettled(): Promise<boolean> {
    const [all, committed] = [await this.#ends(0), await this.#ends(1)];
    return all.every((end, partition) => end === committed[partition]);
  }

  /** Of each partition; with `isolationLevel` 1 where its first open transaction begins: nothing behind is committed yet. */
  async #ends(isolationLevel: 0 | 1): Promise<bigint[]> {
    const topic = this.#topic;
    return (await this.#consumer.listOffsets({ topics: [topic], timestamp: -1n, isolationLevel })).get(topic)!;
  }

  /** All texts until now; each partition's in its order. */
  async read(): Promise<readonly string[]> {
    const topic = this.#topic;
    const { id, partitions } = (await this.#consumer.metadata({ topics: [topic] })).topics.get(topic)!;
    const ends = await this.#ends(1);
    for (const [partition, { leader }] of partitions.entries()) {
      for (let offset = this.#offsets.get(partition) ?? 0n; offset < ends[partition]!; ) {
        const place = { topic, topicId: id, partition, leader, offset };
        const limits = { maxWaitMs: 100, maxBytes: 10_000_000, maxPartitionBytes: 10_000_000 };
        const [fetched] = await fetchCommitted(this.#consumer, leader, [place], limits);
        this.#texts.push(...(fetched?.records ?? []).map(({ value }) => value?.toString() ?? ""));
        offset = fetched?.nextOffset ?? offset;
        this.#offsets.set(partition, offset);
      }
    }
    return this.#texts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#consumer.close(true);
  }
}

/** Makes a topic; the broker may need a moment after its start. */
export async function createTopic(address: string, topic: string, partitions: number): Promise<void> {
  const { Admin } = await kafkaClient();
  const endMs = Date.now() + 60_000;
  for (let tries = 1; ; tries += 1) {
    const admin = new Admin({ clientId: "test", bootstrapBrokers: [address], timeout: 5000, retries: 0 });
    try {
      await admin.createTopics({ topics: [topic], partitions, replicas: -1 });
      return;
    } catch (error) {
      // A broker that was too slow to answer may have made it all the same.
      if (tries > 1 && inspect(error, { depth: 10 }).includes("TOPIC_ALREADY_EXISTS")) return;
      if (Date.now() > endMs) throw error;
      await passing(200);
    } finally {
      await admin.close();
    }
  }
}

/** Produces texts, one record each, to one partition; where a partition has no leader just now, when it has one again. */
export async function produce(
  address: string,
  topic: string,
  texts: readonly string[],
  partitionOf: (index: number) => number = () => 0,
): Promise<void> {
  const { Producer } = await kafkaClient();
  const producer = new Producer({
    clientId: "test",
    bootstrapBrokers: [address],
    timeout: 5000,
    retries: 300,
    retryDelay: 100,
    idempotent: true,
  });
  const parts = new Map<number, string[]>();
  for (const [index, text] of texts.entries()) {
    const part = parts.get(partitionOf(index));
    if (part === undefined) parts.set(partitionOf(index), [text]);
    else part.push(text);
  }
  try {
    // One partition a request: the client never parts what it once took for one leader's, also not when one of two moves.
    for (const [partition, part] of parts)
      for (let at = 0; at < part.length; at += 2000) {
        const messages = part.slice(at, at + 2000).map((text) => ({ topic, partition, value: Buffer.from(text) }));
        await producer.send({ messages });
      }
  } finally {
    await producer.close(true);
  }
}

/** The client, with what Node 20 has not. */
export async function kafkaClient(): Promise<typeof import("@platformatic/kafka")> {
  const { KafkaConnector } = await import("../../src/kafka/client.ts");
  const { sinkContext } = await import("../../src/testing/sink-context.ts");
  const options = { brokers: [], tls: { enabled: false, verify: true }, timeout_ms: 5000 };
  return (await KafkaConnector.load(options, sinkContext())).client;
}
