import { TailraceError } from "../errors.ts";

/** What is shown instead of a secret. */
export const MASK = "***";

/**
 * User info in a URL: everything between `scheme://` and the last `@` in front of the next `/`, `?`, `#`, space or
 * quote (RFC 3986, section 3.2). A password with a raw `@` in it is covered too.
 */
const USER_INFO = /([a-z][a-z0-9+.-]*:\/\/)[^/?#\s"'`<>]*@/gi;

/**
 * A password with a raw `/`, `?` or `#` in it is no valid URL, but it must not be shown either. What looks like a port
 * (`http://host:80/@me`) is none.
 */
const RAW_USER_INFO = /([a-z][a-z0-9+.-]*:\/\/)[^\s:@/"'`]*:(?!\d{1,5}[/?#])[^\s"'`@]*@/gi;

/**
 * A parameter of a URL's query, or of a list such as `host=db password=...`. A quote ends the value only where it may end
 * a quotation: `"...?password=hun"ter"; give ...`.
 */
const PARAMETER = /([^\s?&;=/.:,"'`<>]{1,100})=(?:[^\s&"'`]|["'`](?=[^\s;:,.)\]}]))+/g;

/** The text with the user info of every URL in it, and the values of parameters with a secret's name, replaced by `***`. */
export function maskUrls(text: string): string {
  let masked = text;
  if (text.includes("://") && text.includes("@"))
    masked = masked.replace(USER_INFO, `$1${MASK}@`).replace(RAW_USER_INFO, `$1${MASK}@`);
  if (!text.includes("=")) return masked;
  return masked.replace(PARAMETER, (whole, name: string) => (isSecretParameter(name) ? `${name}=${MASK}` : whole));
}

function isSecretParameter(name: string): boolean {
  let plain = name;
  try {
    plain = decodeURIComponent(name);
  } catch {
    // It is what it looks like.
  }
  return isSecretName(plain) || /^(?:.*[_-])?sig(?:nature)?$/i.test(plain);
}

/** Names of fields that hold secrets wherever they appear. */
const SECRET_NAME =
  /^(?:.*(?:password|passwd|passphrase|secret)|(?:.*[_-])?(?:token|authorization|credentials?|api[_-]?key))$/i;

export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name);
}

/** Deeper than this nothing is worth logging, and a structure that contains itself ends somewhere. */
const MAX_DEPTH = 8;

/**
 * Plain data to show to people: fields with a secret's name become `***`, URLs lose their user info, errors become
 * their name, code and message, with a stack trace where nobody foresaw them. What comes back shares nothing with what went in.
 */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === "string") return maskUrls(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return value;
  if (depth >= MAX_DEPTH) return "[...]";
  if (value instanceof Error) return redactError(value, depth);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof Uint8Array) return `[${value.length} bytes]`;
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  if (value instanceof Map) return redact(Object.fromEntries(value), depth);
  if (value instanceof Set) return redact([...value], depth);
  const shown: { [name: string]: unknown } = {};
  for (const [name, field] of Object.entries(value)) {
    const isHidden = isSecretName(name) && field !== undefined && field !== null;
    shown[name] = isHidden ? MASK : redact(field, depth + 1);
  }
  return shown;
}

/** Its message says all there is to say: one of ours, or an errno (`ENOSPC`). Its cause may still be a surprise. */
function isForeseen(error: Error): boolean {
  if (error instanceof TailraceError) return error.code !== "TR_INTERNAL";
  return "code" in error && /^E[A-Z0-9]+$/.test(String(error.code));
}

function redactError(error: Error, depth: number): unknown {
  const code = "code" in error && typeof error.code === "string" ? { code: error.code } : {};
  const cause = error.cause === undefined ? {} : { cause: redact(error.cause, depth + 1) };
  const stack = error.stack === undefined || isForeseen(error) ? {} : { stack: maskUrls(error.stack) };
  return { name: error.name, ...code, message: maskUrls(error.message), ...stack, ...cause };
}
