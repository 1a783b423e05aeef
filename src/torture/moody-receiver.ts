import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { gunzipSync } from "node:zlib";
import { decompress } from "fzstd";
import { listening } from "../testing/listening.ts";

/** How the receiver treats whoever sends. `cut`: takes half, then the connection ends. `away`: nobody listens. */
export type Mood = "well" | "slow" | "throttling" | "refusing" | "cut" | "hanging" | "away";

export const BAD_MOODS: readonly Mood[] = ["slow", "throttling", "refusing", "cut", "hanging", "away"];

/** An HTTP server with moods. What it acknowledges is given to `onBody`, with the place that it was sent to. */
export class MoodyReceiver {
  mood: Mood = "well";
  requests = 0;
  readonly #onBody: (place: string, body: string) => void;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port: number;

  constructor(onBody: (place: string, body: string) => void, port = 0) {
    this.#onBody = onBody;
    this.#port = port;
  }

  get port(): number {
    return this.#port;
  }

  async start(): Promise<void> {
    const server = createServer((request, response) => void this.#serve(request, response));
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.#sockets.delete(socket));
    });
    await listening(server, this.#port);
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  /** Changes how it behaves from now on; what hangs is cut. */
  async feel(mood: Mood): Promise<void> {
    const before = this.mood;
    this.mood = mood;
    if (before === "hanging") this.#cutAll();
    if (mood === "away") this.#close();
    else if (this.#server === undefined) await this.start();
  }

  stop(): void {
    this.#close();
  }

  #close(): void {
    this.#server?.close();
    this.#server = undefined;
    this.#cutAll();
  }

  #cutAll(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests += 1;
    const { mood } = this;
    const parts: Buffer[] = [];
    try {
      for await (const part of request as AsyncIterable<Buffer>) {
        parts.push(part);
        if (mood === "cut") return void (request.socket as Socket).resetAndDestroy();
      }
    } catch {
      return;
    }
    if (mood === "cut") return void (request.socket as Socket).resetAndDestroy();
    if (mood === "hanging") return;
    if (mood === "refusing") return void response.writeHead(503).end();
    if (mood === "throttling") return void response.writeHead(429, { "retry-after": "1" }).end();
    if (mood === "slow") await new Promise((resolve) => setTimeout(resolve, 400));
    const place = /^\/([^/?]*)/.exec(request.url ?? "")?.[1] ?? "";
    this.#onBody(place, decoded(Buffer.concat(parts), request.headers["content-encoding"]).toString("utf8"));
    // An answer in JSON suits whoever wants to read one.
    response.writeHead(200, { "content-type": "application/json" }).end("{}");
  }
}

function decoded(bytes: Buffer, encoding: string | undefined): Buffer {
  if (encoding === "gzip") return gunzipSync(bytes);
  return encoding === "zstd" ? Buffer.from(decompress(bytes)) : bytes;
}
