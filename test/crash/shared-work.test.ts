import { writeFileSync } from "node:fs";
import { AckPolicy, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, expect, it } from "vitest";
import { createTopic, KafkaServer, produce } from "../servers/kafka.ts";
import { NatsServers } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";
import { CrashMachine, passing, until } from "./machine.ts";

/** An agent of its own, with its own state, that reads `source` into a file. */
class Reader {
  readonly machine = new CrashMachine();
  readonly #config: string;
  #agent: ReturnType<CrashMachine["agent"]> | undefined;

  constructor(source: string) {
    const path = JSON.stringify(this.#path);
    this.#config = this.machine.configure({
      more: `[sources.shared]\n${source}\n[sinks.read]\ntype = "file"\ninputs = ["shared"]\npath = ${path}\nencoding = "text"`,
    });
  }

  get #path(): string {
    return `${this.machine.output}.read`;
  }

  get texts(): string[] {
    return this.machine.linesOf(this.#path);
  }

  get stderr(): string {
    return this.#agent?.stderr ?? "";
  }

  start(): void {
    this.#agent = this.machine.agent(this.#config);
  }

  async stop(): Promise<void> {
    this.#agent!.signal("SIGTERM");
    const exit = await this.#agent!.end();
    expect(exit.code, exit.stderr).toBe(0);
  }

  async kill(): Promise<void> {
    this.#agent!.kill();
    await this.#agent!.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.machine[Symbol.asyncDispose]();
  }
}

const texts = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `message ${from + index}`);

describe.skipIf(!needs("a Kafka broker"))("agents that share a consumer group", () => {
  it("read each record once while partitions move between them, and lose none when one is killed", async () => {
    await using server = await KafkaServer.start();
    await createTopic(server.address, "work", 4);
    const source = `type = "kafka"\nbrokers = ["${server.address}"]\ntopics = ["work"]\ngroup_id = "shared"\nsession_timeout_ms = 6000\ntimeout_ms = 5000`;
    await using one = new Reader(source);
    await using other = new Reader(source);
    const all = () => [...one.texts, ...other.texts];
    const said = () => `${one.stderr}\n---\n${other.stderr}`;
    let sent = 0;
    const send = async (count: number) => {
      await produce(server.address, "work", texts(sent, sent + count), (index) => index % 4);
      sent += count;
    };
    const sendSlowly = async () => {
      await send(200);
      await passing(50);
    };
    one.start();
    other.start();
    while (Math.min(one.texts.length, other.texts.length) === 0 && sent < 60_000) await sendSlowly();
    await other.stop();
    await send(1000);
    await until(() => new Set(all()).size === sent, "everything to be read by the one that is left");
    // Partitions went there and back while records came, and none came twice.
    expect(all().length, said()).toBe(sent);
    // The other comes back with positions of before: what was done meanwhile is not done again.
    other.start();
    const before = other.texts.length;
    while (other.texts.length === before && sent < 120_000) await sendSlowly();
    await until(() => new Set(all()).size === sent, "everything to be read by the two");
    expect(all().length, said()).toBe(sent);
    await one.kill();
    await send(1000);
    await until(() => new Set(all()).size === sent, "the other to take over");
    // What the dead one had delivered and the group did not know yet comes again, and no more than that.
    expect(all().length - sent).toBeLessThan(2000);
  });
});

describe.skipIf(!needs("nats-server"))("agents that share a durable consumer", () => {
  it("read each message once between them, and lose none when one is killed", async () => {
    await using servers = await NatsServers.start();
    const connection = await connect({ servers: servers.urls });
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: "WORK", subjects: ["work.>"] });
    const source = `type = "jetstream"\nservers = ${JSON.stringify(servers.urls)}\nstream = "WORK"\nconsumer = "shared"\nack_wait_ms = 5000\nbatch = 50\nmax_ack_pending = 1000`;
    await using one = new Reader(source);
    await using other = new Reader(source);
    const all = () => [...one.texts, ...other.texts];
    let sent = 0;
    const send = async (count: number) => {
      for (const text of texts(sent, sent + count)) connection.publish("work.a", text);
      await connection.flush();
      sent += count;
    };
    one.start();
    other.start();
    while ((one.texts.length === 0 || other.texts.length === 0) && sent < 100_000) {
      await send(500);
      await passing(20);
    }
    await send(3000);
    await until(() => new Set(all()).size === sent, "everything to be read by the two");
    expect(all().length).toBe(sent);
    expect(Math.min(one.texts.length, other.texts.length)).toBeGreaterThan(0);
    await send(1000);
    await one.kill();
    await send(2000);
    await until(() => new Set(all()).size === sent, "the other to take over");
    // What the dead one had delivered and not acknowledged comes again: no more than the consumer hands out.
    expect(all().length - sent).toBeLessThanOrEqual(1000);
    let left = Number.POSITIVE_INFINITY;
    while (left > 0) left = (await manager.consumers.info("WORK", "shared")).num_ack_pending;
    await other.stop();
    await connection.close();
  });

  it("put a message that is delivered too often into the dead letters, and go on with the others", async () => {
    await using servers = await NatsServers.start();
    const connection = await connect({ servers: servers.urls });
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: "WORK", subjects: ["work.>"] });
    await manager.consumers.add("WORK", { durable_name: "shared", ack_policy: AckPolicy.Explicit, ack_wait: 2e9 });
    for (const text of ["good 1", "poison", "good 2"]) connection.publish("work.a", text);
    await connection.flush();
    await using machine = new CrashMachine();
    // It dies of the poison each time.
    const module = `${machine.folder}/dies.mjs`;
    writeFileSync(
      module,
      'export default (event) => { if (event.message === "poison") process.kill(process.pid, "SIGKILL"); return event; };\n',
    );
    const out = `${machine.output}.read`;
    const config = machine.configure({
      more: `[sources.shared]\ntype = "jetstream"\nservers = ${JSON.stringify(servers.urls)}\nstream = "WORK"\nconsumer = "shared"\nmax_deliver = 3\n[transforms.dies]\ntype = "map"\ninputs = ["shared"]\nmodule = ${JSON.stringify(module)}\n[sinks.read]\ntype = "file"\ninputs = ["dies"]\npath = ${JSON.stringify(out)}\nencoding = "text"`,
    });
    const isDone = async () => {
      const { num_ack_pending: unacknowledged, num_pending: left } = await manager.consumers.info("WORK", "shared");
      return unacknowledged === 0 && left === 0;
    };
    let deaths = 0;
    for (; deaths < 10 && !(await isDone()); deaths += 1) {
      const agent = machine.agent(config);
      while (!agent.isOver && !(await isDone())) await passing(50);
      if (agent.isOver) continue;
      agent.signal("SIGTERM");
      await agent.end();
      break;
    }
    expect(deaths).toBe(3);
    const dead = machine.ask("dlq", "list", "--json", "--state-dir", machine.stateDir);
    expect(machine.linesOf(out).toSorted(), dead).toEqual(["good 1", "good 2"]);
    const letters = JSON.parse(dead) as {
      component: string;
      event: { message: string; sequence: number };
      attempts: number;
    }[];
    expect(letters).toMatchObject([{ component: "shared", attempts: 3, event: { message: "poison", sequence: 2 } }]);
    expect((await manager.consumers.info("WORK", "shared")).num_ack_pending).toBe(0);
    await connection.close();
  });
});
