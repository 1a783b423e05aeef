import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Consumer } from "@platformatic/kafka";
import { fetchCommitted } from "../../src/kafka/fetch.ts";
import { freePorts, untilListening } from "./nats.ts";

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
}

/** One real Kafka broker in KRaft mode (broker and controller in one), on a free port, its data in a temporary folder. */
export class KafkaServer implements AsyncDisposable {
  readonly #folder: string;
  readonly #address: string;
  readonly #port: number;
  #child: ChildProcess | undefined;
  #log = "";

  private constructor(folder: string, address: string, port: number) {
    this.#folder = folder;
    this.#address = address;
    this.#port = port;
  }

  static async start({ properties = [], address = "127.0.0.1" }: KafkaOptions = {}): Promise<KafkaServer> {
    const folder = mkdtempSync(join(tmpdir(), "tailrace-kafka-"));
    const [port, controllerPort] = (await freePorts(2)) as [number, number];
    const server = new KafkaServer(folder, address, port);
    mkdirSync(join(folder, "data"));
    writeFileSync(
      server.#config,
      [
        "process.roles=broker,controller",
        "node.id=1",
        `controller.quorum.voters=1@127.0.0.1:${controllerPort}`,
        `listeners=PLAINTEXT://${address}:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
        `advertised.listeners=PLAINTEXT://${address}:${port}`,
        "controller.listener.names=CONTROLLER",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        `log.dirs=${join(folder, "data")}`,
        "offsets.topic.replication.factor=1",
        "offsets.topic.num.partitions=4",
        "transaction.state.log.replication.factor=1",
        "transaction.state.log.min.isr=1",
        "transaction.state.log.num.partitions=4",
        "group.initial.rebalance.delay.ms=0",
        "group.min.session.timeout.ms=1000",
        "auto.create.topics.enable=false",
        // A broker that was killed may come back soon: the controller holds it for alive until then.
        "broker.session.timeout.ms=2000",
        "broker.heartbeat.interval.ms=500",
        ...properties,
        "",
      ].join("\n"),
    );
    const format = ["-t", randomBytes(16).toString("base64url"), "-c", server.#config];
    const made = spawnSync("java", ["-cp", `${kafkaJars()}/*`, "kafka.tools.StorageTool", "format", ...format], {
      encoding: "utf8",
    });
    if (made.status !== 0) throw new Error(`Kafka's storage cannot be formatted: ${made.stdout}${made.stderr}`);
    try {
      await server.start();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  get #config(): string {
    return join(this.#folder, "server.properties");
  }

  get address(): string {
    return `${this.#address}:${this.#port}`;
  }

  get log(): string {
    return this.#log;
  }

  /** Starts it on the data that is there; resolves when it takes connections. */
  async start(): Promise<void> {
    const memory = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"];
    const child = spawn(
      "java",
      [
        ...memory,
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        `${kafkaJars()}/*`,
        "kafka.Kafka",
        this.#config,
      ],
      { cwd: this.#folder, stdio: ["ignore", "pipe", "pipe"] },
    );
    this.#child = child;
    const note = (text: string) => {
      this.#log = (this.#log + text).slice(-100_000);
    };
    child.stdout.setEncoding("utf8").on("data", note);
    child.stderr.setEncoding("utf8").on("data", note);
    child.once("exit", () => {
      if (this.#child === child) this.#child = undefined;
    });
    await untilListening(
      this.#port,
      () => this.#child === child,
      () => this.#log,
      this.#address,
    );
  }

  /** SIGTERM: an orderly end. */
  stop(): Promise<void> {
    return this.#end("SIGTERM");
  }

  /** SIGKILL. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  /** SIGSTOP and SIGCONT: it says nothing for a while, and keeps its connections. */
  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

/**
 * All committed records of a topic, as Kafka's own consumer reads them (`read_committed`): one text a record, partition by
 * partition. Takes a Java process of its own.
 */
export async function readTopic(address: string, topic: string): Promise<string[]> {
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

  /** All texts until now; each partition's in its order. */
  async read(): Promise<readonly string[]> {
    const topic = this.#topic;
    const { id, partitions } = (await this.#consumer.metadata({ topics: [topic] })).topics.get(topic)!;
    // Behind the first open transaction nothing is committed yet.
    const committed = { topics: [topic], timestamp: -1n, isolationLevel: 1 };
    const ends = (await this.#consumer.listOffsets(committed)).get(topic)!;
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
  const endMs = Date.now() + 30_000;
  for (;;) {
    const admin = new Admin({ clientId: "test", bootstrapBrokers: [address], timeout: 5000, retries: 0 });
    try {
      await admin.createTopics({ topics: [topic], partitions, replicas: 1 });
      return;
    } catch (error) {
      if (Date.now() > endMs) throw error;
      await new Promise((passed) => setTimeout(passed, 200));
    } finally {
      await admin.close();
    }
  }
}

/** Produces texts, one record each, to one partition. */
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
    retries: 20,
    retryDelay: 50,
  });
  try {
    for (let at = 0; at < texts.length; at += 2000) {
      const messages = texts
        .slice(at, at + 2000)
        .map((text, index) => ({ topic, partition: partitionOf(at + index), value: Buffer.from(text) }));
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
