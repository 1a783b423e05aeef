import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { toError } from "../../errors.ts";
import type { Clock } from "../../runtime/clock.ts";
import { describeConnectionError } from "../../runtime/connection-error.ts";
import type { TlsConnection } from "../../stage/index.ts";
import { type Acknowledgements, acknowledgementsOf } from "./acknowledged.ts";

export interface TcpTarget {
  readonly host: string;
  readonly port: number;
  /** Undefined: plain. */
  readonly tls: TlsConnection | undefined;
  /** Longest time until the connection stands (TLS included). */
  readonly timeoutMs: number;
}

/** A host that vanished without a word is found out by the kernel after this time of silence and its probes. */
const KEEP_ALIVE_MS = 15_000;

/** Longest wait between two looks at what the peer has acknowledged. */
const MAX_LOOK_MS = 20;

/** How long a finished connection may take to close before it is cut. */
const CLOSE_MS = 1000;

/**
 * One connection to a receiver of lines.
 *
 * ```
 * connecting --> open --peer's FIN--> ended --.
 *      |           '----error, reset----------+--> closed        nothing leaves closed: a new connection is made instead
 *      '-----------error, time-out, abort-----'
 * ```
 */
export class TcpConnection {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #acknowledgements: Acknowledgements | undefined;
  #failure: string | undefined;
  readonly #closed: Promise<void>;
  #wakeOnFailure: Set<() => void> = new Set();

  /** Rejects with the reason when it does not stand within `target.timeoutMs`, or when `signal` aborts. */
  static async open(target: TcpTarget, clock: Clock, signal: AbortSignal): Promise<TcpConnection> {
    const raw = connect({
      host: target.host,
      port: target.port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
    });
    const socket = target.tls === undefined ? raw : connectTls({ ...target.tls, socket: raw, ...serverName(target) });
    const abort = new AbortController();
    let reason: string | undefined;
    const giveUp = (why: string) => {
      reason ??= why;
      abort.abort();
    };
    const timer = clock.after(target.timeoutMs, () => giveUp(`no connection within ${target.timeoutMs} ms`));
    const onAbort = () => giveUp("given up");
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    // Two sockets of a TLS connection may both fail; what `once` does not hear must not end the process.
    raw.on("error", () => {});
    socket.on("error", () => {});
    try {
      await once(socket, target.tls === undefined ? "connect" : "secureConnect", { signal: abort.signal });
      return new TcpConnection(socket, clock, await acknowledgementsOf(raw));
    } catch (thrown) {
      socket.destroy();
      raw.destroy();
      throw new Error(reason ?? describeConnectionError(toError(thrown)));
    } finally {
      timer.cancel();
      signal.removeEventListener("abort", onAbort);
    }
  }

  private constructor(socket: Socket, clock: Clock, acknowledgements: Acknowledgements | undefined) {
    this.#socket = socket;
    this.#clock = clock;
    this.#acknowledgements = acknowledgements;
    this.#closed = new Promise((resolve) => socket.once("close", () => resolve()));
    socket.on("error", (error) => this.#fail(describeConnectionError(error)));
    socket.on("end", () => this.#fail("the receiver closed the connection"));
    socket.on("close", () => this.#fail("the connection is closed"));
    // Whatever a receiver says is no part of the protocol; unread it would hide its FIN.
    socket.resume();
  }

  /** Why nothing can be sent any more; undefined while all is well. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /**
   * Sends all of it or fails; what of it has arrived when it fails is unknown. Resolves with undefined once the peer's
   * kernel has acknowledged every byte, else with the reason. There is no limit in time: a receiver that does not read
   * holds us back. When `signal` aborts, the connection is cut, since half of a batch may be on its way.
   */
  async send(parts: readonly Buffer[], signal: AbortSignal): Promise<string | undefined> {
    const onAbort = () => this.#cut("given up");
    if (signal.aborted) return "given up";
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await this.#written(parts);
      await this.#acknowledged();
      return this.#failure;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Lets what was sent arrive, then closes; cuts the connection if the receiver takes too long over it. */
  async close(): Promise<void> {
    // A plain destroy would reset the connection where the peer has said something, and a reset may cost it unread lines.
    this.#socket.end();
    const timer = this.#clock.after(CLOSE_MS, () => this.#socket.destroy());
    await this.#closed;
    timer.cancel();
  }

  /** Resolves when our kernel has it, or the connection failed. */
  #written(parts: readonly Buffer[]): Promise<void> {
    if (this.#failure !== undefined) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wakeOnFailure.add(resolve);
      const socket = this.#socket;
      socket.cork();
      parts.forEach((part, index) => {
        if (index < parts.length - 1) socket.write(part);
        else {
          socket.write(part, () => {
            this.#wakeOnFailure.delete(resolve);
            resolve();
          });
        }
      });
      socket.uncork();
    });
  }

  /** Resolves when the peer's kernel has all that ours holds now, or the connection failed. */
  async #acknowledged(): Promise<void> {
    const acknowledgements = this.#acknowledgements;
    if (acknowledgements !== undefined) {
      const mark = acknowledgements.mark();
      for (
        let waitMs = 0;
        this.#failure === undefined && !acknowledgements.has(mark);
        waitMs = Math.min(waitMs + 1, MAX_LOOK_MS)
      ) {
        if (waitMs === 0) await turn();
        else await this.#clock.sleep(waitMs);
      }
    }
    // A reset that came in the meantime is heard of in the next turn, not in this one.
    await turn();
  }

  #fail(reason: string): void {
    this.#failure ??= reason;
    for (const wake of this.#wakeOnFailure) wake();
    this.#wakeOnFailure.clear();
  }

  #cut(reason: string): void {
    this.#fail(reason);
    this.#socket.destroy();
  }
}

/** One round of the event loop, so that sockets are looked at. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** An address has no name to ask for (RFC 6066, section 3). */
function serverName({ host, tls }: TcpTarget): { servername?: string; host?: string } {
  if (tls?.servername !== undefined) return {};
  return /^[\d.]+$|:/.test(host) ? { host } : { servername: host, host };
}
