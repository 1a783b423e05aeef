import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { firstSeed } from "../seed.ts";
import { CrashMachine, passing, until } from "./machine.ts";
import { describeProblems, verify } from "./verify.ts";

const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 4);
const SEED = firstSeed();

/** A server that keeps every line it was sent, in the order in which it took them. */
interface Collector extends AsyncDisposable {
  readonly lines: string[];
  /** How many of them it took without saying so: those must come again. */
  readonly unanswered: number;
  readonly connections: number;
  /** Body of `[sinks.out]`. */
  readonly sink: string;
}

async function tcpCollector(): Promise<Collector> {
  const lines: string[] = [];
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    let rest = "";
    socket.setEncoding("latin1");
    // A line that a dying agent has sent by half is no line.
    socket.on("data", (text: string) => {
      const parts = (rest + text).split("\n");
      rest = parts.pop()!;
      lines.push(...parts);
    });
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    lines,
    unanswered: 0,
    get connections() {
      return sockets.size;
    },
    sink: `type = "tcp"\naddress = "127.0.0.1:${port}"\nencoding = "raw"`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Now and then answers 503 without taking anything, or takes a request and cuts the connection before it answers. */
async function httpCollector(random: SeededRandom): Promise<Collector> {
  const lines: string[] = [];
  const sockets = new Set<Socket>();
  let unanswered = 0;
  const server = createHttpServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      if (random.chance(0.1)) {
        response.writeHead(503).end();
        return;
      }
      const taken = Buffer.concat(chunks).toString("latin1").split("\n").slice(0, -1);
      lines.push(...taken);
      if (random.chance(0.1)) {
        unanswered += taken.length;
        request.socket.destroy();
      } else response.writeHead(200).end();
    });
    request.on("error", () => {});
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    lines,
    get unanswered() {
      return unanswered;
    },
    get connections() {
      return sockets.size;
    },
    sink: `type = "http"\nurl = "http://127.0.0.1:${port}/in"\nencoding = "raw"\nretry = { initial_ms = 20, max_ms = 100 }`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const collectors = [
  { title: "tcp", open: () => tcpCollector() },
  { title: "http", open: (random: SeededRandom) => httpCollector(random) },
];

/** Lines of all logs that lie before the committed positions; for no agent to be alive. */
function committedLines(machine: CrashMachine, config: string): number {
  const rows: { readonly path: string; readonly position: number }[] = JSON.parse(
    machine.ask("checkpoints", "list", "--json", "-c", config),
  );
  return rows.reduce((sum, { path, position }) => {
    const before = readFileSync(path).subarray(0, position);
    return sum + before.toString("latin1").split("\n").length - 1;
  }, 0);
}

describe("agent › kill -9 with a network sink", () => {
  it.each(collectors.map((one, index) => ({ ...one, seed: SEED + index })))(
    "misses no line and keeps the order of first comings: $title (seed $seed)",
    async ({ open, seed }) => {
      const random = new SeededRandom(seed);
      await using collector = await open(random.fork());
      await using machine = new CrashMachine();
      const config = machine.configure({ sink: collector.sink });
      const writer = await machine.writer({
        files: ["a.log", "b.log"],
        linesPerTick: 10,
        tickMs: 5,
        payloadBytes: 200,
        splitLines: true,
        seed,
      });
      let uncommitted = 0;
      for (let round = 0; round < ROUNDS; round += 1) {
        const agent = machine.agent(config);
        const before = collector.lines.length;
        if (random.chance(0.8)) await until(() => agent.isOver || collector.lines.length > before, "lines to arrive");
        await passing(random.int(0, 500));
        await agent.killAtWork();
        await until(() => collector.connections === 0, "what the agent had sent");
        uncommitted += new Set(collector.lines).size - committedLines(machine, config);
      }
      const written = await writer.stop();
      const exit = await machine.agent(config, "--once").end();
      const total = [...written.values()].reduce((sum, lines) => sum + lines.length, 0);
      await until(() => new Set(collector.lines).size >= total, "the last lines").catch(() => {});
      const verdict = verify(written, collector.lines, { allowRepeats: true });
      const account = `seed ${seed}, ${verdict.duplicates} duplicates\n${describeProblems(verdict)}\n${exit.stderr}`;
      expect(exit.code, account).toBe(0);
      expect(verdict.problems.length, account).toBe(0);
      // A kill repeats what had arrived and was not committed; nothing else is ever repeated but what nobody answered for.
      expect(verdict.duplicates, account).toBeLessThanOrEqual(uncommitted + collector.unanswered);
      expect(committedLines(machine, config), account).toBe(total);
    },
    180_000 + ROUNDS * 10_000,
  );
});
