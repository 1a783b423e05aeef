import { type CompressionFormat, formatOfName, withoutFormatEnding } from "../codec/decompress.ts";
import { type BytePath, baseName } from "../runtime/byte-path.ts";
import { oldestFirst } from "./rotation-places/oldest-first.ts";

/*
 * Names that rotation gives to what was once at a path (delivery contract, section 4). With the path's last name `app.log`:
 *
 *   app.log.1  app.log.old                  a number; a larger one is older (logrotate, newsyslog, savelog, Python)
 *   app.log-20260131  app.log.2026-01-31_00-00-00  app.log-1769817600
 *                                           a date, then any numbers; a later one is younger (logrotate's dateext, log4j)
 *   app.1.log  app-20260131.log  app-2026-01-31T10-00-00.000.log
 *                                           either of them before the extension (logrotate's `extension`, lumberjack)
 *   app.log.gz                              the file itself, compressed by hand
 *   any of these, and .gz .zst .xz .bz2
 *
 * Anything else is not of the family: a stray file read as a rotated one would deliver what nobody wanted. So a number
 * stands behind a dot and has at most four digits (`app-8080.log`, `app.log.31337` are other files), and a date is a
 * date of the calendar.
 */

/**
 * Where a name stands in the rotation. `number`: larger is older. `date`: the day as YYYYMMDD and then whatever numbers
 * follow it, compared one by one; larger is younger. `modified`: the name does not tell its age, the time of its last
 * modification does. `none`: the untouched name.
 */
export type Rank =
  | { readonly kind: "number"; readonly number: number }
  | { readonly kind: "date"; readonly key: readonly number[] }
  | { readonly kind: "modified" }
  | { readonly kind: "none" };

/** Of a folder that rotation named. */
export type FolderRank = Extract<Rank, { readonly kind: "number" | "date" }>;

export interface FamilyMember {
  /** The path that was rotated; the given one where it is no rotated name. */
  readonly base: BytePath;
  readonly rank: Rank;
  readonly compression?: CompressionFormat;
}

export interface Sibling {
  /** As it was given. */
  readonly name: BytePath;
  /** Without the ending of its compression: equal for `app.log.1` and the `app.log.1.gz` that is being made of it. */
  readonly plainName: BytePath;
  readonly rank: Rank;
  /** Where its folder stands, if old generations lie in folders of their own: everything in an older one is older. */
  readonly folderRank?: FolderRank;
  /** It lies where nobody said that it would: it is of the family only if its content shows that. */
  readonly isGuess?: true;
  readonly compression?: CompressionFormat;
}

/**
 * The family that a path or name would belong to. A name alone is no proof: `worker.1.log` may be rotated from
 * `worker.log`, or be a file of its own. Rely on it only where `base` is known (has a checkpoint).
 */
export function familyOf(path: BytePath): FamilyMember {
  const name = baseName(path);
  const folder = path.slice(0, path.length - name.length);
  const compression = formatOfName(name);
  const plain = withoutFormatEnding(name);
  const extension = extensionOf(plain);
  const rotated = splitTag(plain, "") ?? (extension === "" ? undefined : splitTag(plain, extension));
  const base = (folder + (rotated?.base ?? plain)) as BytePath;
  return { base, rank: rotated?.rank ?? { kind: "none" }, ...(compression === undefined ? {} : { compression }) };
}

/** Every last name that rotation may have made `name` (a last name) of: `app.log` for `app.log.1.gz`. */
export function basesOf(name: BytePath): BytePath[] {
  const plain = withoutFormatEnding(name);
  const bases = new Set<string>(plain === name ? [] : [plain]);
  for (const extension of new Set(["", extensionOf(plain)])) {
    const end = plain.length - extension.length;
    for (let at = 1; at < end; at += 1) {
      if (SEPARATORS.has(plain[at]!) && parseTag(plain.slice(at, end)) !== undefined)
        bases.add(plain.slice(0, at) + extension);
    }
  }
  return [...bases] as BytePath[];
}

/**
 * Those of `names` (of the folder of `base`) that were rotated from it, oldest first; `base` itself is left out. Where
 * a plain and a compressed name have the same rank, the plain one comes first.
 *
 * @param modifiedMs decides between equal ranks, and between a dated and a numbered name (without it dated ones are
 *   taken for older), so that a family survives a change of its naming
 */
export function siblingsOf(
  base: BytePath,
  names: readonly BytePath[],
  modifiedMs: (name: BytePath) => number | undefined = () => undefined,
): Sibling[] {
  const parse = siblingParser(base);
  return oldestFirst(
    names.flatMap((name) => parse(name) ?? []),
    modifiedMs,
  );
}

/** Tells of one name after the other whether it was rotated from `base`, and how; undefined for `base` itself. */
export function siblingParser(base: BytePath): (name: BytePath) => Sibling | undefined {
  const own = baseName(base);
  const extension = extensionOf(own);
  const stem = own.slice(0, own.length - extension.length);
  return (name) => {
    const last = baseName(name);
    if (last === own) return undefined;
    const compression = formatOfName(last);
    const rank = rankAgainst(withoutFormatEnding(last), own, stem, extension);
    if (rank === undefined) return undefined;
    const plainName = withoutFormatEnding(name) as BytePath;
    return { name, plainName, rank, ...(compression === undefined ? {} : { compression }) };
  };
}

function rankAgainst(name: string, own: string, stem: string, extension: string): Rank | undefined {
  if (name === own) return { kind: "none" };
  if (name.startsWith(own)) return parseTag(name.slice(own.length));
  const tagEnd = name.length - extension.length;
  if (stem === "" || extension === "" || tagEnd < stem.length) return undefined;
  if (!name.startsWith(stem) || !name.endsWith(extension)) return undefined;
  return parseTag(name.slice(stem.length, tagEnd));
}

/** `.log` of `app.log`; empty where there is none, or where it is all of the name. Digits are no extension. */
export function extensionOf(name: string): string {
  return /(?<=.)\.[A-Za-z][A-Za-z0-9]{0,9}$/s.exec(name)?.[0] ?? "";
}

/** The longest tag in front of `extension`: `{ base: "app.log", rank }` for `app.2026-01-31.1.log` and `.log`. */
function splitTag(name: string, extension: string): { base: string; rank: Rank } | undefined {
  const end = name.length - extension.length;
  for (let at = 1; at < end; at += 1) {
    const rank = parseTag(name.slice(at, end));
    if (rank !== undefined) return { base: name.slice(0, at) + extension, rank };
  }
  return undefined;
}

/** What a tag begins with. */
const SEPARATORS: ReadonlySet<string> = new Set(["-", ".", "_"]);

/** What stands between a base and the end (or the extension): a separator, then a number or a date. */
export function parseTag(tag: string): Rank | undefined {
  if (tag === ".old") return { kind: "number", number: 1 };
  if (/^\.\d{1,4}$/.test(tag)) return { kind: "number", number: Number(tag.slice(1)) };
  if (!/^[-._]\d/.test(tag)) return undefined;
  const key = parseDate(tag.slice(1));
  return key === undefined ? undefined : { kind: "date", key };
}

const YEAR_FIRST = /^(?<year>\d{4})(?<separator>[-._]?)(?<month>\d\d)\k<separator>(?<day>\d\d)(?<rest>.*)$/s;
const DAY_FIRST = /^(?<day>\d\d)(?<separator>[-._])(?<month>\d\d)\k<separator>(?<year>\d{4})(?<rest>.*)$/s;
const MONTH_ONLY = /^(?<year>\d{4})[-._]?(?<month>\d\d)$/;
/** A time, a running number, or both: `-153000`, `_15-30-00`, `T15-30-00.000`, `.2`; or seconds since the epoch. */
const REST = /^(?:[-._T:]\d{1,13}){0,4}$/;
/** Behind a day without separators the time may follow at once: `20260131153000`. */
const COMPACT_REST = /^(?:\d\d){1,3}(?=$|[-._T:])/;

export function parseDate(text: string): readonly number[] | undefined {
  for (const pattern of [YEAR_FIRST, DAY_FIRST]) {
    const groups = pattern.exec(text)?.groups;
    if (groups === undefined) continue;
    const day = dayNumber(Number(groups["year"]), Number(groups["month"]), Number(groups["day"]));
    const rest = groups["rest"]!;
    const compact = groups["separator"] === "" ? (COMPACT_REST.exec(rest)?.[0] ?? "") : "";
    const isTime = compact === "" || Number(compact.slice(0, 2)) < 24;
    if (day === undefined || !isTime || !REST.test(rest.slice(compact.length))) continue;
    return [
      day,
      ...(compact === "" ? [] : [Number(compact)]),
      ...(rest.slice(compact.length).match(/\d+/g) ?? []).map(Number),
    ];
  }
  if (/^1\d{9}$/.test(text)) {
    // Seconds since the epoch, until 2033.
    const time = new Date(Number(text) * 1000);
    const day = time.getUTCFullYear() * 10000 + (time.getUTCMonth() + 1) * 100 + time.getUTCDate();
    return [day, Number(text) % 86400];
  }
  const month = MONTH_ONLY.exec(text)?.groups;
  const day = month === undefined ? undefined : dayNumber(Number(month["year"]), Number(month["month"]), 1);
  return day === undefined ? undefined : [day];
}

/** YYYYMMDD, where that is a day of the calendar within a log file's lifetime. */
export function dayNumber(year: number, month: number, day: number): number | undefined {
  if (year < 1970 || year > 2199) return undefined;
  const date = new Date(Date.UTC(year, month - 1, day));
  const isDay = date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  return isDay ? year * 10000 + month * 100 + day : undefined;
}
