import { z } from "zod";
import { maskUrls } from "../telemetry/redact.ts";

/** Scheme of an address that needs no server: PGlite in this process, for trials. */
const EMBEDDED = "pglite:";

/** `url` of every stage that talks to Postgres. */
export const postgresUrl = () =>
  z
    .string()
    .superRefine(checkUrl)
    .describe(
      "Where the database is: postgres://user:password@host:5432/database, TLS by ?sslmode=verify-full; or pglite:FOLDER, " +
        "which needs no server and is for trials.",
    );

function checkUrl(text: string, context: z.RefinementCtx): void {
  const refuse = (message: string) => void context.addIssue({ code: "custom", message });
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    refuse('this is no URL; give "postgres://user:password@host:5432/database"');
    return;
  }
  if (url.protocol === EMBEDDED) return;
  if (url.protocol !== "postgres:" && url.protocol !== "postgresql:")
    refuse(`a URL of Postgres begins with postgres://, this one with ${url.protocol}`);
  // A query is part of the place that is shown and compared; who we are stands in one place only.
  if (url.searchParams.has("password") || url.searchParams.has("sslpassword"))
    refuse(
      "a password belongs in front of the @, as in postgres://user:password@host/database, where it is never shown",
    );
}

/** The folder of an embedded database ("" for one in memory); undefined: a server. */
export function embeddedFolder(url: string): string | undefined {
  return url.startsWith(EMBEDDED) ? url.slice(EMBEDDED.length).replace(/^\/\/(?=\/|\.|$)/, "") : undefined;
}

/** Host, port and database, without who we are there; the same database always looks the same. */
export function placeOf(url: string): string {
  if (url.startsWith(EMBEDDED)) return url;
  const { host, pathname, searchParams, username } = new URL(url);
  const where = searchParams.get("host") ?? (host === "" ? "localhost" : decodeURIComponent(host));
  const database = pathname.length > 1 ? decodeURIComponent(pathname.slice(1)) : decodeURIComponent(username);
  return `${where}/${database}`;
}

/** Takes our own secrets out of whatever a server or a driver says. */
export function redactorOf(url: string): (text: string) => string {
  if (url.startsWith(EMBEDDED)) return (text) => text;
  const { password } = new URL(url);
  const secrets = [url, password, decoded(password)].filter((secret) => secret !== "");
  return (text) => maskUrls(secrets.reduce((shown, secret) => shown.replaceAll(secret, "***"), text));
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
