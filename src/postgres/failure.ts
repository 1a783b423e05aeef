import { errnoOf, toError } from "../errors.ts";
import { describeConnectionError } from "../runtime/connection-error.ts";

/**
 * What a failure is about (PostgreSQL 15, appendix A):
 * - `data`: the values; sent again they fail again
 * - `lasting`: what is configured, here or there: no such table, wrong password, no privilege
 * - `passing`: the connection, the server's state, somebody else's locks
 */
export type FailureKind = "data" | "lasting" | "passing";

/** What the server or the way to it answered, without secrets. */
export class PgFailure extends Error {
  readonly kind: FailureKind;
  /** SQLSTATE, five characters; undefined: the connection itself failed. */
  readonly sqlState: string | undefined;
  /** Name of the constraint that refused a row. */
  readonly constraint: string | undefined;

  constructor(message: string, facts: { kind: FailureKind; sqlState?: string; constraint?: string; cause?: unknown }) {
    super(message, { cause: facts.cause });
    this.name = "PgFailure";
    this.kind = facts.kind;
    this.sqlState = facts.sqlState;
    this.constraint = facts.constraint;
  }
}

export const UNIQUE_VIOLATION = "23505";

const SQLSTATE = /^[0-9A-Z]{5}$/;

/** Classes that are about the values of a row: 22 data exception, 23 constraint, 44 check option, 54 limits (a row too large). */
const DATA = /^(?:22|23|44|54)|^P0001$/;

/**
 * 28 authorization, 3D no such database, 3F no such schema, 42 no such table or column, no privilege, wrong type; 0A not
 * supported. None of them can be mended by waiting, or by leaving a record out.
 */
const LASTING = /^(?:28|3D|3F|42|0A)/;

function kindOf(sqlState: string): FailureKind {
  if (DATA.test(sqlState)) return "data";
  return LASTING.test(sqlState) ? "lasting" : "passing";
}

export function failureOf(thrown: unknown, redact: (text: string) => string): PgFailure {
  if (thrown instanceof PgFailure) return thrown;
  const error = toError(thrown);
  const code = errnoOf(error);
  // An errno of five letters (EPIPE) looks like a SQLSTATE; only the server's own errors have a severity.
  if (code === undefined || !SQLSTATE.test(code) || !("severity" in error))
    return new PgFailure(redact(describeConnectionError(error)), { kind: "passing", cause: error });
  const constraint = "constraint" in error && typeof error.constraint === "string" ? error.constraint : undefined;
  const message = redact(`${error.message} (SQLSTATE ${code})`);
  return new PgFailure(message, {
    kind: kindOf(code),
    sqlState: code,
    ...(constraint === undefined ? {} : { constraint }),
    cause: error,
  });
}
