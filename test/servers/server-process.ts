import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";

/** A real server of the tests' own: one process after the other, each on the data that the last one left. */
export abstract class ServerProcess {
  #child: ChildProcess | undefined;
  #log = "";

  /** A new process, its output in pipes. */
  protected abstract launch(): ChildProcess;

  /** Rejects while it takes no connections. */
  protected abstract answer(): Promise<void>;

  /** The end of what it has said. */
  get log(): string {
    return this.#log;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  protected get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts it on the data that is there; resolves when it takes connections. */
  async start(): Promise<void> {
    const child = this.launch();
    this.#child = child;
    for (const output of [child.stdout, child.stderr])
      output?.setEncoding("utf8").on("data", (text: string) => {
        this.#log = (this.#log + text).slice(-100_000);
      });
    child.once("exit", () => {
      if (this.#child === child) this.#child = undefined;
    });
    for (const endMs = Date.now() + 60_000; ; await passing(20)) {
      if (this.#child !== child) throw new Error(`the server ended:\n${this.#log}`);
      try {
        return await this.answer();
      } catch (error) {
        if (Date.now() > endMs) throw new Error(`the server does not answer:\n${this.#log}`, { cause: error });
      }
    }
  }

  /** SIGTERM: an orderly end. */
  stop(): Promise<void> {
    return this.end("SIGTERM");
  }

  /** SIGKILL. */
  kill(): Promise<void> {
    return this.end("SIGKILL");
  }

  /** SIGSTOP and SIGCONT: it says nothing for a while, and keeps its connections. */
  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  protected async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }
}

/**
 * Ports that nobody listens on, all different, and none of those that the kernel gives to outgoing connections: while a
 * server is away, nobody's connection takes its port, and an agent that tries again and again does not meet itself there.
 */
export async function freePorts(count: number): Promise<number[]> {
  const lowest = 10_000;
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = lowest + Math.floor(Math.random() * (firstOutgoingPort() - lowest));
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

/** ip(7), `ip_local_port_range`; where there is no such file, Linux's default. */
function firstOutgoingPort(): number {
  const path = "/proc/sys/net/ipv4/ip_local_port_range";
  return existsSync(path) ? Math.max(20_000, Number.parseInt(readFileSync(path, "utf8"), 10)) : 32_768;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const isListening = await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, () => resolve(true));
  });
  if (isListening) await new Promise((closed) => server.close(closed));
  return isListening;
}

/** Rejects while nobody takes connections there. */
export async function untilConnected(port: number, address: string): Promise<void> {
  const socket = connect(port, address);
  try {
    await once(socket, "connect");
  } finally {
    socket.destroy();
  }
}

export function passing(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
