import { createHash, timingSafeEqual } from "node:crypto";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { errnoOf } from "../errors.ts";
import type { Random } from "../runtime/random.ts";

/** 256 bits. */
const TOKEN_BYTES = 32;

/**
 * The token of actions: the configured one, else the one in `path`, which is made (0600) where there is none. It stays
 * the same over restarts, so that whoever was given it can go on using it.
 */
export function apiToken(configured: string | undefined, path: string, random: Random): string {
  if (configured !== undefined) return configured;
  try {
    const kept = readFileSync(path, "utf8").trim();
    if (kept !== "") {
      chmodSync(path, 0o600);
      return kept;
    }
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
  const token = random.hex(TOKEN_BYTES);
  writeFileSync(path, `${token}\n`, { mode: 0o600 });
  chmodSync(path, 0o600);
  return token;
}

/** Whether an `Authorization` header carries the token; how long this takes says nothing about how much of it is right. */
export function carriesToken(authorization: string | undefined, token: string, schemes: readonly Scheme[]): boolean {
  const [, scheme = "", credentials = ""] = /^(\S+)\s+(\S+)\s*$/.exec(authorization ?? "") ?? [];
  const used = scheme.toLowerCase();
  if (used === "bearer" && schemes.includes("bearer")) return isEqual(credentials, token);
  if (used !== "basic" || !schemes.includes("basic")) return false;
  // A browser asks for a name and a password: any name will do.
  const [, password = ""] = /^[^:]*:(.*)$/s.exec(Buffer.from(credentials, "base64").toString("utf8")) ?? [];
  return isEqual(password, token);
}

type Scheme = "bearer" | "basic";

function isEqual(given: string, token: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}
