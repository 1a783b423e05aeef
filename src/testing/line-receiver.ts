import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { listening } from "./listening.ts";

/** A real TCP (or TLS) server that collects lines, and can stall, die and come back at the same address. */
export class LineReceiver {
  /** Whole lines that arrived, over all connections, in order of arrival. */
  readonly lines: string[] = [];
  /** What connections ended with that was no whole line. */
  readonly fragments: string[] = [];
  /** Connections that were ever made. */
  accepted = 0;
  readonly #tls: { readonly cert: string; readonly key: string } | undefined;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  #isStalled = false;

  constructor(tls?: { readonly cert: string; readonly key: string }) {
    this.#tls = tls;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Listens; the second time at the same port. */
  async start(): Promise<void> {
    const serve = (socket: Socket) => this.#serve(socket);
    const server = this.#tls === undefined ? createServer(serve) : createTlsServer(this.#tls, serve);
    await listening(server, this.#port);
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  /** Stops reading: bytes pile up in the buffers between us. */
  stall(): void {
    this.#isStalled = true;
    for (const socket of this.#sockets) socket.pause();
  }

  flow(): void {
    this.#isStalled = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** As if the process died with unread bytes: every connection is reset, nobody listens. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, "close");
    server.close();
    for (const socket of this.#sockets) this.#tls === undefined ? socket.resetAndDestroy() : socket.destroy();
    await closed;
  }

  /** Says goodbye on every connection and goes on listening. */
  endConnections(): void {
    for (const socket of this.#sockets) socket.end();
  }

  #serve(socket: Socket): void {
    this.accepted += 1;
    this.#sockets.add(socket);
    let rest = "";
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      this.lines.push(...lines);
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#sockets.delete(socket);
      if (rest !== "") this.fragments.push(rest);
    });
    if (this.#isStalled) socket.pause();
  }
}
