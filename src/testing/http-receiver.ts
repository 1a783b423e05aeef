import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { gunzipSync } from "node:zlib";
import { listening } from "./listening.ts";

export interface ReceivedRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  /** Decompressed. */
  readonly body: string;
}

/** What to answer; `hang`: nothing, until the connection ends; `reset`: takes the body, then cuts the connection. */
export type Answer =
  | { readonly status: number; readonly headers?: { readonly [name: string]: string }; readonly body?: string }
  | "hang"
  | "reset";

/** A real HTTP (or HTTPS) server that collects requests, answers as it is told, and can die and come back. */
export class HttpReceiver {
  /** Those that were answered with 2xx. */
  readonly taken: ReceivedRequest[] = [];
  readonly requests: ReceivedRequest[] = [];
  /** Called for each request once its body is whole; default 204. */
  answer: (request: ReceivedRequest) => Answer = () => ({ status: 204 });
  readonly #tls:
    | { readonly cert: string; readonly key: string; readonly ca?: string; readonly requestCert?: boolean }
    | undefined;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;

  constructor(tls?: {
    readonly cert: string;
    readonly key: string;
    readonly ca?: string;
    readonly requestCert?: boolean;
  }) {
    this.#tls = tls;
  }

  get url(): string {
    return `${this.#tls === undefined ? "http" : "https"}://127.0.0.1:${this.#port}/ingest?x=1`;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Lines of the bodies that were taken, in order of arrival. */
  get lines(): readonly string[] {
    return this.taken.flatMap(({ body }) => body.split("\n").slice(0, -1));
  }

  /** Listens; the second time at the same port. */
  async start(): Promise<void> {
    const serve = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response);
    const server = this.#tls === undefined ? createServer(serve) : createTlsServer(this.#tls, serve);
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    await listening(server, this.#port);
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  /** As if the process died: every connection is reset, nobody listens. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, "close");
    server.close();
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    try {
      for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
    } catch {
      // The sender gave up; what came is no request.
      return;
    }
    const whole = Buffer.concat(parts);
    const body = request.headers["content-encoding"] === "gzip" ? gunzipSync(whole) : whole;
    const received: ReceivedRequest = {
      method: request.method ?? "",
      url: request.url ?? "",
      headers: request.headers,
      body: body.toString("utf8"),
    };
    this.requests.push(received);
    const answer = this.answer(received);
    if (answer === "hang") return;
    if (answer === "reset") {
      (request.socket as Socket).resetAndDestroy();
      return;
    }
    if (answer.status >= 200 && answer.status < 300) this.taken.push(received);
    response.writeHead(answer.status, answer.headers).end(answer.body ?? "");
  }
}
