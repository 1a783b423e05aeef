import { isIP } from "node:net";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import type { JetStreamApiError, JetStreamManager } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { errnoOf, StageError, toError } from "../errors.ts";
import { describeConnectionError } from "../runtime/connection-error.ts";
import { type StageContext, type TlsConnection, tlsConnection, tlsRemedy } from "../stage/index.ts";
import { maskUrls } from "../telemetry/redact.ts";
import { NatsLogin } from "./login.ts";
import { type NatsOptions, type ServerAddress, serverOf, usesTls } from "./options.ts";

/** The client's packages; they are optional, and loaded by who uses them. */
export interface NatsClient {
  readonly transport: typeof import("@nats-io/transport-node");
  readonly jetstream: typeof import("@nats-io/jetstream");
}

/** @throws StageError `TR_STAGE_OPEN` if they are not installed. */
async function loadNats(component: string): Promise<NatsClient> {
  try {
    const [transport, jetstream] = await Promise.all([import("@nats-io/transport-node"), import("@nats-io/jetstream")]);
    return { transport, jetstream };
  } catch (error) {
    if (errnoOf(error) !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new StageError(
      "TR_STAGE_OPEN",
      component,
      "needs packages that are not installed: npm install @nats-io/transport-node @nats-io/jetstream",
    );
  }
}

/** A server that says nothing to two pings in a row is gone: found within 6 to 9 s. */
const PING_INTERVAL_MS = 3000;
const PINGS_UNANSWERED = 2;

/**
 * Connections to one cluster. They never reconnect by themselves: what the client would send again then, nobody has
 * decided to send. Whoever uses one makes the next.
 */
export class NatsConnector {
  readonly client: NatsClient;
  readonly #servers: readonly ServerAddress[];
  readonly #login: NatsLogin;
  readonly #tls: TlsConnection | undefined;
  readonly #context: StageContext;
  readonly #timeoutMs: number;

  private constructor(client: NatsClient, options: NatsOptions, tls: TlsConnection | undefined, context: StageContext) {
    this.client = client;
    this.#servers = options.servers.map(serverOf);
    this.#login = new NatsLogin(options, client.transport, context.fileSystem);
    this.#tls = tls;
    this.#context = context;
    this.#timeoutMs = options.timeout_ms;
  }

  /** @throws StageError: a package is missing, or a file cannot be read, or holds something else. */
  static async load(options: NatsOptions, context: StageContext): Promise<NatsConnector> {
    const client = await loadNats(context.name);
    const tls = usesTls(options) ? await tlsConnection(options.tls, context) : undefined;
    const connector = new NatsConnector(client, options, tls, context);
    try {
      await connector.#login.options();
    } catch (thrown) {
      throw new StageError("TR_STAGE_OPEN", context.name, toError(thrown).message, { cause: thrown });
    }
    return connector;
  }

  /** A new connection to one of the servers, tried in any order; rejects with what is wrong where, in words that can be shown. */
  async connect(): Promise<NatsConnection> {
    const { name, random } = this.#context;
    const login = await this.#login.options();
    const drawn = this.#servers.map((server) => ({ server, order: random.next() }));
    const failures: string[] = [];
    let last: unknown;
    for (const { server } of drawn.sort((one, other) => one.order - other.order)) {
      try {
        return await this.client.transport.connect({
          ...login,
          servers: server.address,
          name: `tailrace ${name}`,
          reconnect: false,
          timeout: this.#timeoutMs,
          pingInterval: PING_INTERVAL_MS,
          maxPingOut: PINGS_UNANSWERED,
          // The client hands this on to node:tls as it is; its own type names a part of it only.
          ...(this.#tls === undefined ? {} : { tls: tlsTo(server, this.#tls) as object }),
        });
      } catch (thrown) {
        last = thrown;
        failures.push(`${server.address}: ${this.#reasonOf(thrown)}`);
        // The others would say the same: it is one login for all of them, and some lock out who is wrong too often.
        if (thrown instanceof this.client.transport.AuthorizationError) break;
      }
    }
    throw new Error(maskUrls(`no connection to NATS: ${failures.join("; ")}`), { cause: last });
  }

  #reasonOf(thrown: unknown): string {
    const error = toError(thrown);
    if (error instanceof this.client.transport.AuthorizationError)
      return `the server refuses ${this.#login.words} (${error.message})`;
    const cause = error.cause instanceof Error ? `: ${describeConnectionError(error.cause)}` : "";
    const remedy = this.#remedyOf(error);
    return `${describeConnectionError(error)}${cause}${remedy === undefined ? "" : `; ${remedy}`}`;
  }

  #remedyOf(error: Error): string | undefined {
    const remedy = tlsRemedy(error) ?? tlsRemedy(error.cause);
    if (remedy !== undefined && this.#tls === undefined)
      return `the server speaks TLS only: tls.enabled = true; ${remedy}`;
    // What a server says that refuses our certificate may be lost behind the end of the connection.
    if (this.#tls !== undefined && /^(?:ECONNRESET|EPIPE)$/.test(errnoOf(error) ?? ""))
      return "does the server want a certificate of ours (tls.cert, tls.key), and trust it?";
    return remedy;
  }

  /** The JetStream API over a connection; asking for it costs nothing. */
  manager(connection: NatsConnection): Promise<JetStreamManager> {
    return this.client.jetstream.jetstreamManager(connection, { checkAPI: false, timeout: this.#timeoutMs });
  }

  /** The server's own error number of a refused request (its `err_code`); undefined for any other failure. */
  codeOf(thrown: unknown): number | undefined {
    const { JetStreamApiError } = this.client.jetstream;
    return thrown instanceof JetStreamApiError ? (thrown as JetStreamApiError).code : undefined;
  }
}

/** The server's error numbers (nats-server, server/errors.json). */
export const NATS_CODES = {
  consumerNotFound: 10014,
  messageTooLarge: 10054,
  streamNotFound: 10059,
  wrongStream: 10060,
  wrongLastMessageId: 10070,
  wrongLastSequence: 10071,
} as const;

/** Over the socket that it upgrades, the client would check an address against "localhost". */
function tlsTo({ host }: ServerAddress, tls: TlsConnection): TlsConnection {
  if (tls.servername !== undefined || tls.checkServerIdentity !== undefined || isIP(host) === 0) return tls;
  return {
    ...tls,
    checkServerIdentity: (_: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate),
  };
}
