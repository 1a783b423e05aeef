import { errnoOf, toError } from "../errors.ts";

/** The reason in one line; a host with several addresses fails once for each. */
export function describeConnectionError(error: Error): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return [...new Set(error.errors.map((one) => describeConnectionError(toError(one))))].join(", ");
  }
  const code = errnoOf(error);
  const message = saidBy(error, code) || error.name;
  return code === undefined || message.includes(code) ? message : `${message} (${code})`;
}

/** OpenSSL's own message has addresses, source files and a line break in it; its reason stands beside it. */
function saidBy(error: Error, code: string | undefined): string {
  const isOpenSsl = code !== undefined && /^ERR_(?:SSL|OSSL)_/.test(code);
  return isOpenSsl && "reason" in error && typeof error.reason === "string" ? error.reason : error.message;
}
