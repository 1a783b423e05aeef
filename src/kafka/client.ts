import type { BaseOptions } from "@platformatic/kafka";
import { errnoOf, StageError } from "../errors.ts";
import { describeConnectionError } from "../runtime/connection-error.ts";
import { type StageContext, tlsConnection } from "../stage/index.ts";
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
      retryDelay: RETRY_DELAY_MS,
      autocreateTopics: false,
      ...(tls === undefined ? {} : { tls, ...(tls.servername === undefined ? {} : { tlsServerName: tls.servername }) }),
      ...(sasl === undefined
        ? {}
        : {
            sasl: { mechanism: MECHANISMS[sasl.mechanism], username: sasl.username, password: sasl.password },
          }),
    });
  }
}

/** Every error in a failure: the client's hold the errors of each try, and those the broker's answers. */
function allOf(error: unknown): Error[] {
  if (!(error instanceof Error)) return [];
  const inner = "errors" in error && Array.isArray(error.errors) ? (error.errors as unknown[]) : [];
  return [error, ...inner.flatMap(allOf), ...allOf(error.cause)];
}

/** Names of the broker's errors in a failure (`MESSAGE_TOO_LARGE`, ...; Kafka protocol, "Error Codes"). */
export function brokerErrors(error: unknown): ReadonlySet<string> {
  return new Set(allOf(error).flatMap((one) => ("apiId" in one && typeof one.apiId === "string" ? [one.apiId] : [])));
}

/** A failure in one line: what the broker said, else the last thing that went wrong. */
export function describeFailure(error: unknown): string {
  const errors = allOf(error);
  const said = errors.find((one) => "apiId" in one && typeof one.apiId === "string");
  if (said !== undefined) return `${said.message} (${(said as { apiId?: string }).apiId})`;
  const last = errors.findLast((one) => !("errors" in one)) ?? errors[0];
  return last === undefined ? String(error) : describeConnectionError(last);
}
