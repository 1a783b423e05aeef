import type { BaseOptions } from "@platformatic/kafka";
import { errnoOf, StageError, toError } from "../errors.ts";
import { type StageContext, tlsConnection } from "../stage/index.ts";
import { describeFailure, isClosed, isRefusal } from "./failure.ts";
import type { KafkaOptions } from "./options.ts";

/** The client's package; it is optional, and loaded by who uses it. */
export type KafkaClient = typeof import("@platformatic/kafka");

/** @throws StageError `TR_STAGE_OPEN` if it is not installed. */
async function loadKafka(component: string): Promise<KafkaClient> {
  fillIn();
  try {
    return await import("@platformatic/kafka");
  } catch (error) {
    if (errnoOf(error) !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new StageError(
      "TR_STAGE_OPEN",
      component,
      "needs a package that is not installed: npm install @platformatic/kafka",
    );
  }
}

/** The client calls what ECMAScript 2024 has and Node 20 has not (https://tc39.es/ecma262/#sec-promise.withResolvers). */
function fillIn(): void {
  const promise: { withResolvers?: unknown } = Promise as never;
  promise.withResolvers ??= function <T>(this: PromiseConstructor) {
    let resolve!: (value: T | PromiseLike<T>) => void;
    let reject!: (reason?: unknown) => void;
    const made = new this<T>((yes, no) => {
      resolve = yes;
      reject = no;
    });
    return { promise: made, resolve, reject };
  };
}

/** A request is tried again so often after a failure that may pass, and so much later: waits of a second in all. */
const RETRIES = 20;
const RETRY_DELAY_MS = 50;

/** As the client hands itself over when it is about to try again. */
interface Closable {
  close(force: boolean): Promise<void>;
}

/**
 * Whoever is refused asks once, not twenty times within a second: some lock out who is wrong too often. The client ends what
 * waits for another try only when it is closed; who uses it makes the next one, ever later.
 */
function delayOfRetry(client: unknown, _operation: string, _attempt: number, _retries: number, error: Error): number {
  if (isRefusal(error)) queueMicrotask(() => void (client as Closable).close(true).catch(toError));
  return RETRY_DELAY_MS;
}

const MECHANISMS = { plain: "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512" } as const;

/** What every client of one component is made of. */
export class KafkaConnector {
  readonly client: KafkaClient;
  readonly base: BaseOptions;
  /**
   * For clients that join no group (where a request may wait for other members): what has no answer within `timeout_ms` has
   * failed. The client's `timeout` is what the broker takes for its own work; by itself it would wait 30 s for an answer that
   * was lost on the way.
   */
  readonly impatient: BaseOptions;

  private constructor(client: KafkaClient, base: BaseOptions) {
    this.client = client;
    this.base = base;
    // A fetch of ours waits for up to 100 ms at the broker.
    this.impatient = { ...base, requestTimeout: Math.max(base.timeout ?? 0, 1000) };
  }

  /** @throws StageError: the package is missing, or a file cannot be read. */
  static async load(options: KafkaOptions, context: StageContext): Promise<KafkaConnector> {
    const client = await loadKafka(context.name);
    const { brokers, sasl, timeout_ms: timeoutMs } = options;
    const tls = options.tls.enabled ? await tlsConnection(options.tls, context) : undefined;
    return new KafkaConnector(client, {
      clientId: `tailrace-${context.name.replace(/\s/g, "_")}`,
      bootstrapBrokers: [...brokers],
      timeout: timeoutMs,
      connectTimeout: timeoutMs,
      retries: RETRIES,
      retryDelay: delayOfRetry,
      autocreateTopics: false,
      ...(tls === undefined ? {} : { tls, ...(tls.servername === undefined ? {} : { tlsServerName: tls.servername }) }),
      ...(sasl === undefined
        ? {}
        : {
            sasl: { mechanism: MECHANISMS[sasl.mechanism], username: sasl.username, password: sasl.password },
          }),
    });
  }

  /** A failure of one of these clients in one line, without secrets. */
  describe(error: unknown): string {
    if (!isClosed(error)) return describeFailure(error);
    // What a broker says that refuses us is lost behind the end of the connection, if it says anything.
    const { tls, sasl, bootstrapBrokers } = this.base;
    const missing = [
      ...(sasl === undefined ? ["a login (sasl)"] : []),
      ...(tls !== undefined && tls.cert === undefined ? ["a certificate of ours (tls.cert and tls.key)"] : []),
    ];
    const question = missing.length === 0 ? "" : `; does it want ${missing.join(", or ")}?`;
    return `${bootstrapBrokers.join(", ")}: the broker closed the connection${question}`;
  }
}
