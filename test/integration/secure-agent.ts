import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { CrashMachine, passing, until } from "../crash/machine.ts";
import { describeProblems, verify } from "../crash/verify.ts";

const AGENT = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));

/** What `validate --live` says of each component, and its exit code. */
async function validateLive(
  config: string,
  env: Env = {},
): Promise<{ readonly code: number | null; readonly says: string }> {
  const child = spawn(process.execPath, [AGENT, "validate", "--live", "-c", config], {
    env: { ...process.env, ...env },
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

/**
 * Runs one of the examples: lines go from files to a server and back into a file, once each, although the agent is killed in
 * between. `validate --live` finds nothing amiss, and no secret is shown.
 */
export async function bringsLinesThereAndBack(
  name: "jetstream" | "kafka",
  options: { readonly env: Env; readonly seed: number; readonly secrets: readonly string[] },
): Promise<Map<string, string[]>> {
  const { seed, secrets } = options;
  await using machine = new CrashMachine();
  const example = fileURLToPath(new URL(`../../examples/secure/${name}.toml`, import.meta.url));
  const own = { TAILRACE_STATE: machine.stateDir, LOGS: `${machine.logs}/*.log`, COPY: machine.output };
  const env = { ...options.env, ...own };
  const writer = await machine.writer({
    files: ["a.log", "b.log"],
    linesPerTick: 2,
    tickMs: 5,
    payloadBytes: 100,
    splitLines: true,
    seed,
  });
  const agent = machine.agentIn({ env }, example);
  await until(() => agent.isOver || machine.outputBytes() > 0, "lines to come back");
  expect(agent.isOver, agent.stderr).toBe(false);
  agent.kill();
  await agent.exited;
  const written = await writer.stop();
  // What the first one brings there may lie behind where its own source has ended.
  const exits = [];
  for (let time = 0; time < 2; time += 1) exits.push(await machine.agentIn({ env }, example, "--once").end());
  const stderr = [agent.stderr, ...exits.map((exit) => exit.stderr)].join("\n");
  expect(
    exits.map(({ code }) => code),
    stderr,
  ).toEqual([0, 0]);
  const verdict = verify(written, machine.outputLines(), { allowRepeats: false });
  expect(verdict.problems.length, `seed ${seed}\n${describeProblems(verdict)}\n${stderr}`).toBe(0);
  expect(verdict.lines).toBeGreaterThan(0);
  const live = await validateLive(example, env);
  expect(live.code, live.says).toBe(0);
  for (const secret of secrets) expect(stderr + live.says).not.toContain(secret);
  return written;
}

type Env = { readonly [name: string]: string };

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
