import { isIP } from "node:net";
import type { HttpBindings } from "@hono/node-server";
import type { Context, MiddlewareHandler } from "hono";
import type { ApiError } from "./routes.ts";
import { carriesToken } from "./token.ts";

export type ApiContext = { Bindings: HttpBindings };

export interface GuardOptions {
  readonly token: string;
  /** How clients reach us; on a Unix socket its permissions say who may. */
  readonly reach: "unix" | "loopback" | "network";
  /** Host names that are answered to, beside loopback and the address that a connection came in on. */
  readonly names: readonly string[];
}

/**
 * Who may ask what:
 *
 * - a Host that is not ours: 421. A page of a hostile site whose name resolves to this machine sends its own name (DNS
 *   rebinding), and the browser would let it read the answer.
 * - an Origin that is not ours: 403. A hostile page may send requests to us, and must not act.
 * - an action (anything but GET and HEAD), and off loopback everything: 401 without the token. Actions take it as a
 *   Bearer only, since a browser adds a Basic password that it knows to every request, whoever caused it.
 */
export function guard({ token, reach, names }: GuardOptions): MiddlewareHandler<ApiContext> {
  const listed = new Set(names.map((name) => hostOf(name) ?? name.toLowerCase()));
  return async (context, next) => {
    const host = hostOf(context.req.header("host") ?? "");
    if (reach !== "unix" && !isOurs(host, listed, context))
      return refuse(context, 421, "misdirected", "this Host is not ours; list it in api.allowed_hosts if it is");
    const origin = context.req.header("origin");
    if (origin !== undefined && originHost(origin) !== (context.req.header("host") ?? "").toLowerCase())
      return refuse(context, 403, "foreign_origin", "requests from pages of other sites are refused");
    const isAction = context.req.method !== "GET" && context.req.method !== "HEAD";
    if (isAction || reach === "network") {
      const schemes = isAction ? (["bearer"] as const) : (["bearer", "basic"] as const);
      if (!carriesToken(context.req.header("authorization"), token, schemes)) {
        context.header("WWW-Authenticate", isAction ? "Bearer" : 'Basic realm="tailrace", charset="UTF-8"');
        return refuse(context, 401, "unauthorized", "send the token (api.token, or STATE_DIR/api-token) as a Bearer");
      }
    }
    await next();
    context.header("X-Content-Type-Options", "nosniff");
    context.header("Referrer-Policy", "no-referrer");
    context.header("Cross-Origin-Resource-Policy", "same-origin");
    if (!context.res.headers.has("Cache-Control")) context.header("Cache-Control", "no-store");
    return undefined;
  };
}

function refuse(context: Context, status: 401 | 403 | 421, code: string, message: string): Response {
  return context.json({ code, message } satisfies ApiError, status);
}

/** The host of a `Host` header, lower case, without port and brackets; undefined if it is none. */
function hostOf(header: string): string | undefined {
  const [, v6, name] = /^(?:\[([0-9a-f:.]+)\]|([^:/?#@[\]\s]+))(?::\d{1,5})?$/i.exec(header.trim()) ?? [];
  const host = (v6 ?? name)?.toLowerCase();
  // A name may be written with the root's dot.
  return host?.endsWith(".") ? host.slice(0, -1) : host;
}

function originHost(origin: string): string | undefined {
  return /^https?:\/\/([^/?#@\s]+)$/i.exec(origin)?.[1]?.toLowerCase();
}

function isOurs(host: string | undefined, listed: ReadonlySet<string>, context: Context<ApiContext>): boolean {
  if (host === undefined) return false;
  if (host === "localhost" || listed.has(host)) return true;
  // A hostile page cannot have an address for a name; loopback and the address that the client chose are safe.
  return isIP(host) !== 0 && (isLoopback(host) || host === localAddress(context));
}

function localAddress(context: Context<ApiContext>): string | undefined {
  return context.env.incoming.socket.localAddress
    ?.replace(/^::ffff:/, "")
    .replace(/%.*$/, "")
    .toLowerCase();
}

/** 127.0.0.0/8 and ::1. */
export function isLoopback(address: string): boolean {
  return (isIP(address) === 4 && address.startsWith("127.")) || address === "::1";
}
