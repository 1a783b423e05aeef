import { errnoOf, toError } from "../errors.ts";

/** The reason in one line; a host with several addresses fails once for each. */
export function describeConnectionError(error: Error): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return [...new Set(error.errors.map((one) => describeConnectionError(toError(one))))].join(", ");
  }
  const code = errnoOf(error);
  const message = error.message === "" ? error.name : error.message;
  return code === undefined || message.includes(code) ? message : `${message} (${code})`;
}
