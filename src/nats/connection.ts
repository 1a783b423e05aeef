import type { JetStreamApiError, JetStreamManager } from "@nats-io/jetstream";
import type { ConnectionOptions, NatsConnection } from "@nats-io/transport-node";
import { errnoOf, StageError, toError } from "../errors.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import { describeConnectionError } from "../runtime/connection-error.ts";
import { type StageContext, tlsConnection } from "../stage/index.ts";
import { maskUrls } from "../telemetry/redact.ts";
import type { NatsOptions } from "./options.ts";

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
  readonly #connection: ConnectionOptions;
  readonly #timeoutMs: number;

  private constructor(client: NatsClient, connection: ConnectionOptions, timeoutMs: number) {
    this.client = client;
    this.#connection = connection;
    this.#timeoutMs = timeoutMs;
  }

  /** @throws StageError: a package is missing, or a file cannot be read. */
  static async load(options: NatsOptions, context: StageContext): Promise<NatsConnector> {
    const client = await loadNats(context.name);
    const { timeout_ms: timeoutMs } = options;
    const { servers, isTls, ...login } = addressesOf(options.servers);
    const connection: ConnectionOptions = {
      ...login,
      servers,
      name: `tailrace ${context.name}`,
      reconnect: false,
      timeout: timeoutMs,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: PINGS_UNANSWERED,
    };
    if (options.tls.enabled || isTls)
      // The client hands this on to node:tls as it is; its own type names a part of it only.
      Object.assign(connection, { tls: await tlsConnection(options.tls, context) });
    if (options.credentials !== undefined) {
      const credentials = await readFile(options.credentials, context);
      connection.authenticator = client.transport.credsAuthenticator(credentials);
    }
    return new NatsConnector(client, connection, timeoutMs);
  }

  /** A new connection; rejects with what is wrong, in words that can be shown. */
  async connect(): Promise<NatsConnection> {
    try {
      return await this.client.transport.connect(this.#connection);
    } catch (thrown) {
      const error = toError(thrown);
      const cause = error.cause instanceof Error ? `: ${describeConnectionError(error.cause)}` : "";
      throw new Error(maskUrls(`no connection to NATS: ${describeConnectionError(error)}${cause}`), { cause: thrown });
    }
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

/** What user info there is becomes the login: the client knows none in URLs. One login for all servers. */
function addressesOf(servers: readonly string[]): {
  servers: string[];
  isTls: boolean;
  user?: string;
  pass?: string;
  token?: string;
} {
  const parsed = servers.map((server) => {
    const [, scheme = "nats", userInfo, address] = /^(?:(nats|tls):\/\/)?(?:(.*)@)?(.*)$/.exec(server)!;
    return { scheme, userInfo, address: address! };
  });
  const userInfo = parsed.find((server) => server.userInfo !== undefined)?.userInfo;
  const [user, ...rest] = userInfo?.split(":") ?? [];
  const login =
    user === undefined
      ? {}
      : rest.length === 0
        ? { token: decodeURIComponent(user) }
        : { user: decodeURIComponent(user), pass: decodeURIComponent(rest.join(":")) };
  return {
    servers: parsed.map(({ address }) => address),
    isTls: parsed.some(({ scheme }) => scheme === "tls"),
    ...login,
  };
}

async function readFile(path: string, { name, fileSystem }: StageContext): Promise<Uint8Array> {
  try {
    const handle = await fileSystem.open(pathFromText(path), "read");
    try {
      const { size } = await handle.stat();
      const bytes = Buffer.alloc(size);
      const filled = await handle.read(bytes, 0, size, 0);
      return bytes.subarray(0, filled);
    } finally {
      await handle.close();
    }
  } catch (thrown) {
    throw new StageError("TR_STAGE_OPEN", name, `credentials = "${path}" cannot be read: ${toError(thrown).message}`, {
      cause: thrown,
    });
  }
}
