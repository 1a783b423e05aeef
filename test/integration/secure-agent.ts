import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { type CrashMachine, passing, until } from "../crash/machine.ts";

const AGENT = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));

/** What `validate --live` says of each component, and its exit code. */
export async function validateLive(config: string): Promise<{ readonly code: number | null; readonly says: string }> {
  const child = spawn(process.execPath, [AGENT, "validate", "--live", "-c", config], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let says = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      says += text;
    });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, says };
}

/** How long an agent is watched that may not come in; no moment of it matters. */
const WATCHED_MS = 1500;

/**
 * Components that are refused by their servers, each for its reason: each says so once, is tried again ever later, shows
 * nothing secret, and `validate --live` has said it before.
 *
 * @param attempts how often a server was asked until now, by component.
 */
export async function areRefusedClearly(
  machine: CrashMachine,
  config: string,
  options: {
    readonly reasons: { readonly [component: string]: RegExp };
    readonly secrets: readonly string[];
    readonly attempts: () => readonly number[];
  },
): Promise<void> {
  const { reasons, secrets, attempts } = options;
  const beforehand = await validateLive(config);
  expect(beforehand.code, beforehand.says).toBe(1);
  for (const [component, reason] of Object.entries(reasons)) {
    const said = beforehand.says.split("\n").filter((line) => line.startsWith(`${component}: `));
    expect(said).toEqual([expect.stringMatching(reason)]);
  }
  const before = attempts();
  const agent = machine.agent(config, "--log-level", "debug");
  const said = (component: string) => agent.log.flatMap(({ msg }) => (msg.startsWith(`${component} `) ? [msg] : []));
  const haveSaid = () => Object.keys(reasons).every((component) => said(component).length > 0);
  await until(() => agent.isOver || haveSaid(), "all to complain");
  await passing(WATCHED_MS);
  expect(agent.isOver, agent.stderr).toBe(false);
  agent.kill();
  const { stderr } = await agent.exited;
  for (const [component, reason] of Object.entries(reasons))
    expect(said(component)).toEqual([expect.stringMatching(reason)]);
  for (const secret of secrets) expect(stderr + beforehand.says).not.toContain(secret);
  // Waits that double, with full jitter: a source and a sink make some ten attempts in this time, and never so many.
  for (const [index, count] of attempts().entries()) expect(count - before[index]!).toBeLessThanOrEqual(30);
}

/** Stands in front of a server, and counts who comes. */
export class CountingDoor implements AsyncDisposable {
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();
  connections = 0;

  private constructor(to: string) {
    const [host, port] = to.split(":") as [string, string];
    this.#listener = createServer((outer) => {
      this.connections += 1;
      this.#join(outer, connect(Number(port), host));
    });
  }

  static async open(to: string): Promise<CountingDoor> {
    const door = new CountingDoor(to);
    await once(door.#listener.listen(0, "127.0.0.1"), "listening");
    return door;
  }

  #join(outer: Socket, inner: Socket): void {
    for (const [socket, other] of [
      [outer, inner],
      [inner, outer],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => this.#sockets.delete(socket));
      socket.pipe(other);
    }
  }

  get address(): string {
    return `127.0.0.1:${(this.#listener.address() as { port: number }).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const socket of this.#sockets) socket.destroy();
    await once(this.#listener, "close");
  }
}
