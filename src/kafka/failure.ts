import { errnoOf, toError } from "../errors.ts";
import { describeConnectionError } from "../runtime/connection-error.ts";
import { tlsRemedy } from "../stage/index.ts";

/** Every error in a failure: the client's hold the errors of each try, and those the broker's answers. */
function allOf(error: unknown): Error[] {
  if (!(error instanceof Error)) return [];
  const inner = "errors" in error && Array.isArray(error.errors) ? (error.errors as unknown[]) : [];
  return [error, ...inner.flatMap(allOf), ...allOf(error.cause)];
}

/** The broker's name of an error that it answered with; undefined: it is no answer. */
function apiIdOf(error: Error): string | undefined {
  return "apiId" in error && typeof error.apiId === "string" ? error.apiId : undefined;
}

/** Names of the broker's errors in a failure (`MESSAGE_TOO_LARGE`, ...; Kafka protocol, "Error Codes"). */
export function brokerErrors(error: unknown): ReadonlySet<string> {
  return new Set(allOf(error).flatMap((one) => apiIdOf(one) ?? []));
}

const LOGIN_FAILURES = new Set(["SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM", "ILLEGAL_SASL_STATE"]);

/** Codes of a certificate that we do not trust, or the broker does not (Node, "TLS"; OpenSSL's X509_V_ERR_...). */
const TLS_FAILURE = /^(?:CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|ERR_TLS_|ERR_SSL_)/;

/** A broker does not let us in, or we do not trust it: the next moment says the same. */
export function isRefusal(error: unknown): boolean {
  return allOf(error).some(
    (one) => LOGIN_FAILURES.has(apiIdOf(one) ?? "") || isLoginFailure(one) || TLS_FAILURE.test(errnoOf(one) ?? ""),
  );
}

/** By the client's own code: it has understood the broker's answer, or the broker's signature is wrong. */
const isLoginFailure = (error: Error): boolean => errnoOf(error) === "PLT_KFK_AUTHENTICATION";

/** A connection that stood was closed by the broker, which gave no reason. */
export function isClosed(error: unknown): boolean {
  const ends = allOf(error).filter((one) => !("errors" in one));
  return ends.length > 0 && ends.every(({ message }) => message === "Connection closed");
}

/** Answers of a broker that does not lead the partition, or not yet, or knows nothing of our last fetch. */
const MOVES = new Set([
  "NOT_LEADER_OR_FOLLOWER",
  "LEADER_NOT_AVAILABLE",
  "REPLICA_NOT_AVAILABLE",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
  "KAFKA_STORAGE_ERROR",
  "BROKER_NOT_AVAILABLE",
  "OFFSET_NOT_AVAILABLE",
  "FETCH_SESSION_ID_NOT_FOUND",
  "INVALID_FETCH_SESSION_EPOCH",
  "FETCH_SESSION_TOPIC_ID_ERROR",
]);

/** A leader moved or is away, which a moment and another look at who leads what may mend. */
export function isMove(error: unknown): boolean {
  if (isRefusal(error)) return false;
  const answers = [...brokerErrors(error)];
  if (answers.length > 0) return answers.every((answer) => MOVES.has(answer));
  return allOf(error).some(
    (one) => errnoOf(one) === "PLT_KFK_NETWORK" || one.message.startsWith("Cannot find broker with node id"),
  );
}

/** The client's error around what went wrong with one connection. */
const CONNECTION = /^Connection to (\S+) (?:failed|timed out)\.$/;

/** Brokers that are named in one line. */
const MAX_PLACES = 3;

/** A failure in one line: what the broker said, else what went wrong with each broker, else the last thing that did. */
export function describeFailure(error: unknown): string {
  const errors = allOf(error);
  const places = new Map<string, string>();
  for (const one of errors) {
    const [, place] = CONNECTION.exec(one.message) ?? [];
    if (place !== undefined) places.set(place, reasonOf(one));
  }
  const said = errors.findLast((one) => apiIdOf(one) !== undefined && !LOGIN_FAILURES.has(apiIdOf(one)!));
  if (said !== undefined) return `${said.message} (${apiIdOf(said)})`;
  if (places.size > 0)
    return `no connection to ${[...places]
      .map(([place, reason]) => `${place}: ${reason}`)
      .slice(-MAX_PLACES)
      .join("; ")}`;
  const last = errors.findLast((one) => !("errors" in one)) ?? errors[0];
  return last === undefined ? String(error) : describeConnectionError(last);
}

/** Why one connection was not made. */
function reasonOf(failure: Error): string {
  const errors = allOf(failure);
  if (errors.some(isLoginFailure)) {
    const said = errors.find((one) => apiIdOf(one) !== undefined);
    const details = said !== undefined && "serverErrorMessage" in said ? said.serverErrorMessage : undefined;
    const words = typeof details === "string" && details !== "" ? details : (said?.message ?? errors.at(-1)!.message);
    return `the broker refuses our login: ${words}`;
  }
  const cause = toError(errors.at(-1));
  if (cause === failure) return "it timed out";
  const remedy = tlsRemedy(cause);
  return `${describeConnectionError(cause)}${remedy === undefined ? "" : `; ${remedy}`}`;
}
