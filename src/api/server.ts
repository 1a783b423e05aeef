import { lstatSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect, type Socket } from "node:net";
import { getRequestListener } from "@hono/node-server";
import type { ApiPlan } from "../config/plan.ts";
import { ConfigError, errnoOf, TailraceError, toError } from "../errors.ts";
import { listenPrivately } from "../runtime/listen-privately.ts";
import { type ApiView, apiApp } from "./app.ts";
import { isLoopback } from "./guard.ts";

/** Connections at once; what comes beyond is closed at once. */
const MAX_CONNECTIONS = 128;
const MAX_HEADER_BYTES = 16 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_MS = 5000;
/** How long answers under way may take at the end. */
const LAST_WORDS_MS = 500;

/** The HTTP API of a running agent, on one TCP address or one Unix socket (mode 0600). */
export class ApiServer {
  readonly #server: Server;
  readonly #socketPath: string | undefined;
  /** Where it listens: `http://host:port`, or `unix:/path`. */
  readonly address: string;

  private constructor(server: Server, socketPath: string | undefined, address: string) {
    this.#server = server;
    this.#socketPath = socketPath;
    this.address = address;
  }

  /**
   * Before anything is touched: whether this process may listen where the plan says.
   * @throws ConfigError `TR_PRIVILEGE_MISSING`
   */
  static async checkPrivilege(plan: ApiPlan): Promise<void> {
    const at = parseAddress(plan.address);
    // Only these need a privilege, as a rule (man 7 ip, ip_unprivileged_port_start).
    if (at.kind !== "tcp" || at.port === 0 || at.port >= 1024) return;
    const server = createServer();
    try {
      await listenOnTcp(server, at.host, at.port);
    } catch (error) {
      // Whatever else is wrong is said when it is opened.
      if (errnoOf(error) === "EACCES") throw describe(plan.address, error);
    } finally {
      server.close();
    }
  }

  /** @throws TailraceError `TR_ADDRESS_IN_USE`; ConfigError `TR_PRIVILEGE_MISSING`; `TR_ADDRESS_UNUSABLE` for an address that is not ours or not allowed. */
  static async open(plan: ApiPlan, token: string, view: ApiView): Promise<ApiServer> {
    const at = parseAddress(plan.address);
    const server = createServer({
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
    });
    server.maxConnections = MAX_CONNECTIONS;
    try {
      if (at.kind === "unix") await listenOnSocket(server, at.path);
      else await listenOnTcp(server, at.host, at.port);
    } catch (error) {
      throw describe(plan.address, error);
    }
    const bound = server.address();
    const isNetwork = typeof bound === "object" && bound !== null && !isLoopback(bound.address);
    const app = apiApp(view, {
      token,
      reach: at.kind === "unix" ? "unix" : isNetwork ? "network" : "loopback",
      names: [...plan.allowedHosts, ...(at.kind === "tcp" ? [at.host] : [])],
    });
    const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
    server.on("request", listener);
    // A client that speaks no HTTP costs no more than its connection.
    server.on("clientError", (_, socket: Socket) => socket.destroy());
    // Whoever listens must not keep an agent alive that has nothing more to do.
    server.unref();
    if (typeof bound === "string" || bound === null) return new ApiServer(server, plan.address.slice(5), plan.address);
    const host = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
    return new ApiServer(server, undefined, `http://${host}:${bound.port}`);
  }

  async close(): Promise<void> {
    if (this.#socketPath !== undefined) rmSync(this.#socketPath, { force: true });
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    // Whoever listens to events still gets the last ones.
    const patience = setTimeout(() => this.#server.closeAllConnections(), LAST_WORDS_MS);
    await closed;
    clearTimeout(patience);
  }
}

type Address =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/** Of a checked configuration: `unix:/path`, `host:port` or `[v6]:port`. */
function parseAddress(address: string): Address {
  if (address.startsWith("unix:")) return { kind: "unix", path: address.slice("unix:".length) };
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  return { kind: "tcp", host, port: Number(address.slice(colon + 1)) };
}

function listenOnTcp(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, exclusive: true }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** A socket that a killed agent left behind is replaced; one that somebody answers on is in use. */
async function listenOnSocket(server: Server, path: string): Promise<void> {
  try {
    await listenPrivately(server, path);
  } catch (error) {
    if (errnoOf(error) !== "EADDRINUSE" || !lstatSync(path).isSocket() || (await isAnswered(path))) throw error;
    rmSync(path, { force: true });
    await listenPrivately(server, path);
  }
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}

function describe(address: string, error: unknown): TailraceError {
  const errno = errnoOf(error);
  if (errno === "EADDRINUSE") {
    return new TailraceError(
      "TR_ADDRESS_IN_USE",
      `api.address ${address} is taken by another process; stop that one, give another address, or set api.enabled = false`,
      { cause: error },
    );
  }
  if (errno === "EACCES" && !address.startsWith("unix:")) {
    const message = `listening on ${address} needs a privilege that this process does not have; give a port above 1023, or the capability CAP_NET_BIND_SERVICE`;
    return new ConfigError([{ key: "api.address", message }], "TR_PRIVILEGE_MISSING");
  }
  return new TailraceError(
    "TR_ADDRESS_UNUSABLE",
    `cannot listen on api.address ${address}: ${toError(error).message}`,
    {
      cause: error,
    },
  );
}
