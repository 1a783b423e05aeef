import type { Clock } from "../../runtime/clock.ts";

/**
 * What an HTTP answer says about a batch (RFC 9110, section 15):
 * - `delivered`: the server took it
 * - `retry`: it may pass with time; the same batch is sent again
 * - `misconfigured`: this says nothing about the records but something about the configuration (a wrong URL, a wrong
 *   token). Sent again and again, loudly: dead-lettering every record because a token expired would be no service
 * - `rejected`: the server will never take these records; the batch is bisected until the bad one stands alone
 */
export type Verdict = "delivered" | "retry" | "misconfigured" | "rejected";

/** Codes that differ from the rule of their class, which is below. */
const VERDICTS: { readonly [status: number]: readonly [verdict: Verdict, why: string] } = {
  401: ["misconfigured", "the credentials are missing or wrong"],
  402: ["misconfigured", "an account needs attention"],
  403: ["misconfigured", "the credentials do not allow this"],
  404: ["misconfigured", "there is nothing at this url"],
  405: ["misconfigured", "the method is not allowed at this url"],
  406: ["misconfigured", "the answer cannot be given in a form that we asked for"],
  407: ["misconfigured", "a proxy wants credentials"],
  408: ["retry", "the server waited too long for the request"],
  409: ["retry", "the state of the target is in conflict, which passes"],
  410: ["misconfigured", "what was at this url is gone"],
  411: ["misconfigured", "a proxy does not take what we send"],
  413: ["rejected", "the batch is too large; halves may fit"],
  415: ["misconfigured", "the server does not take this encoding or compression"],
  417: ["misconfigured", "a proxy does not take what we send"],
  421: ["misconfigured", "this server does not answer for this host"],
  423: ["retry", "the target is locked, which passes"],
  424: ["retry", "something that the server needs failed"],
  425: ["retry", "the server does not want to risk a replay yet"],
  426: ["misconfigured", "the server wants another protocol"],
  428: ["misconfigured", "the server wants a condition that we do not send"],
  429: ["retry", "we are too fast"],
  431: ["misconfigured", "the headers are too large"],
  451: ["misconfigured", "the target is closed for legal reasons"],
  501: ["misconfigured", "the server does not know the method"],
  505: ["misconfigured", "the server does not speak HTTP/1.1"],
  511: ["misconfigured", "the network wants a login"],
};

export function verdictOf(status: number): { readonly verdict: Verdict; readonly why: string } {
  const own = VERDICTS[status];
  if (own !== undefined) return { verdict: own[0], why: own[1] };
  if (status >= 200 && status < 300) return { verdict: "delivered", why: "the server took it" };
  if (status >= 300 && status < 400) return { verdict: "misconfigured", why: "the target is elsewhere; set url to it" };
  if (status >= 400 && status < 500) return { verdict: "rejected", why: "the server does not take these records" };
  return { verdict: "retry", why: "the server has trouble" };
}

/** A server may ask us to wait; not for longer than this. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/** `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date; undefined where it is neither. */
export function retryAfterMs(header: string | undefined, clock: Clock): number | undefined {
  if (header === undefined) return undefined;
  const text = header.trim();
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - clock.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS);
}
