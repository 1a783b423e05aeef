import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { freePorts, passing, ServerProcess, untilConnected } from "./server-process.ts";

/** Where Debian puts it is not on the path of everybody. */
const PATH = `${process.env["PATH"]}:/usr/sbin:/sbin`;

const LOOPBACK = "127.0.0.1";

/** Whether there is a `nats-server` to start. */
export function hasNatsServer(): boolean {
  return spawnSync("nats-server", ["--version"], { env: { ...process.env, PATH }, stdio: "ignore" }).status === 0;
}

export interface NatsOptions {
  /** Further lines of the configuration file of each node. */
  readonly config?: string;
  /** Where clients reach each node, an IPv4 address of this machine; default: the loopback. */
  readonly address?: string;
}

interface NodeOptions extends NatsOptions {
  readonly name: string;
  readonly folder: string;
  readonly port: number;
  /** Port of our own route, and the ports of all. */
  readonly routes?: { readonly own: number; readonly all: readonly number[] };
}

/** One real `nats-server` with JetStream, on a free port, with its data in a temporary folder. */
export class NatsNode extends ServerProcess {
  readonly #options: NodeOptions;

  constructor(options: NodeOptions) {
    super();
    this.#options = options;
  }

  get url(): string {
    return `nats://${this.#options.address ?? LOOPBACK}:${this.#options.port}`;
  }

  get port(): number {
    return this.#options.port;
  }

  protected override launch(): ChildProcess {
    const { name, folder, port, routes, config = "", address = LOOPBACK } = this.#options;
    const path = join(folder, `${name}.conf`);
    const cluster =
      routes === undefined
        ? ""
        : `cluster { name: tests, listen: "127.0.0.1:${routes.own}", routes: [${routes.all
            .map((route) => `"nats-route://127.0.0.1:${route}"`)
            .join(", ")}] }\n`;
    writeFileSync(
      path,
      `server_name: ${name}\nlisten: "${address}:${port}"\njetstream { store_dir: "${join(folder, name)}" }\n${cluster}${config}\n`,
    );
    mkdirSync(join(folder, name), { recursive: true });
    return spawn("nats-server", ["-c", path], { env: { ...process.env, PATH }, stdio: ["ignore", "pipe", "pipe"] });
  }

  protected override answer(): Promise<void> {
    return untilConnected(this.#options.port, this.#options.address ?? LOOPBACK);
  }
}

/** One node, or several that form a cluster. */
export class NatsServers implements AsyncDisposable {
  readonly nodes: readonly NatsNode[];
  readonly #folder: string;

  private constructor(nodes: readonly NatsNode[], folder: string) {
    this.nodes = nodes;
    this.#folder = folder;
  }

  static async start(count: 1 | 3 = 1, options: NatsOptions = {}): Promise<NatsServers> {
    const folder = mkdtempSync(join(tmpdir(), "tailrace-nats-"));
    const ports = await freePorts(count * 2);
    const all = ports.slice(count);
    const nodes = Array.from(
      { length: count },
      (_, index) =>
        new NatsNode({
          ...options,
          name: `n${index + 1}`,
          folder,
          port: ports[index]!,
          ...(count === 1 ? {} : { routes: { own: all[index]!, all } }),
        }),
    );
    const servers = new NatsServers(nodes, folder);
    try {
      await Promise.all(nodes.map((node) => node.start()));
    } catch (error) {
      await servers[Symbol.asyncDispose]();
      throw error;
    }
    return servers;
  }

  get urls(): string[] {
    return this.nodes.map(({ url }) => url);
  }

  /** The first, or only, node. */
  get node(): NatsNode {
    return this.nodes[0]!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()));
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

export interface ReadMessage {
  readonly sequence: number;
  readonly subject: string;
  readonly body: string;
  readonly id: string;
}

/** All that a stream holds, in its order, read by nobody's consumer. */
export async function readStream(connection: NatsConnection, stream: string): Promise<ReadMessage[]> {
  const manager = await jetstreamManager(connection, { checkAPI: false });
  const { state } = await manager.streams.info(stream);
  const messages: ReadMessage[] = [];
  if (state.messages === 0) return messages;
  const { name } = await manager.consumers.add(stream, { ack_policy: AckPolicy.None, mem_storage: true });
  const consumer = await jetstream(connection).consumers.get(stream, name);
  for await (const message of await consumer.consume({ max_messages: 1000 })) {
    const { seq: sequence, subject, headers } = message;
    messages.push({ sequence, subject, body: message.string(), id: headers?.get("Nats-Msg-Id") ?? "" });
    if (sequence >= state.last_seq) break;
  }
  await consumer.delete();
  return messages;
}

/** Asks again until it is answered: a cluster that lost a node needs a moment to find its leaders. */
export async function eventually<T>(ask: () => Promise<T>, limitMs = 60_000): Promise<T> {
  const endMs = Date.now() + limitMs;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (Date.now() > endMs) throw error;
      await passing(50);
    }
  }
}
