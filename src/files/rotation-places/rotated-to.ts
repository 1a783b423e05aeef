import { posix } from "node:path";
import { formatOfName, withoutFormatEnding } from "../../codec/decompress.ts";
import { type BytePath, baseName, folderOf, joinPath, pathFromText } from "../../runtime/byte-path.ts";
import { type FolderRank, type Rank, type Sibling, siblingParser } from "../family.ts";
import { type DateLetter, type DateParts, datePattern, dateRank, isDateLetter } from "./date-format.ts";
import { escaped } from "./logrotate-pattern.ts";
import { folderRankOf, looseRank } from "./loose-rank.ts";

/** A name of a path: text, or a pattern of names. */
export type Segment = BytePath | NamePattern;

interface NamePattern {
  readonly source: RegExp;
  /** What each group stands for. */
  readonly groups: readonly ("*" | DateLetter)[];
  /** The first `*` stands right behind the base's name, so that it stands for a tag. */
  readonly isTag: boolean;
}

/** A folder of a place. */
interface RotatedFolder {
  readonly rank?: FolderRank;
  /** What a name in it is in the family. */
  readonly parse: (name: BytePath) => Sibling | undefined;
}

interface Stretches {
  readonly stars: readonly string[];
  readonly dates: DateParts;
}

/** What the log's last name is put in for. */
const NAME = "{name}";

const NOTHING: Stretches = { stars: [], dates: {} };

/**
 * A place of `rotated_to` for one log: where its old generations lie, as a person wrote it.
 *
 *     /var/log/old/{name}*          {name}: the log's last name; `*`: a number or a date, and what stands around it
 *     old/{name}*                   relative to the log's folder
 *     /archive/{name}/*             a folder for each log; a `*` may stand for folders too, named by dates or numbers
 *     /archive/%Y/%m/{name}-%d      parts of a date, as in strftime(3): Y m d H M S V s; any other is a `*`
 *
 * Besides what the pattern matches, whatever has a name of the family (`app.log.1.gz`) counts in the folders that it names.
 */
export class RotatedTo {
  /** The folder that all lies in: the part in front of the first pattern. */
  readonly root: BytePath;
  /** Folders below it that are named by patterns, from the top. */
  readonly folders: readonly Segment[];
  readonly #last: Segment;
  readonly #base: BytePath;
  readonly #ofFamily: (name: BytePath) => Sibling | undefined;

  /** @param text from the configuration; holds `{name}` */
  constructor(text: string, base: BytePath) {
    const template = pathFromText(text);
    const absolute = posix.normalize(template.startsWith("/") ? template : joinPath(folderOf(base), template));
    const segments = (absolute.endsWith("/") ? `${absolute}*` : absolute)
      .split("/")
      .slice(1)
      .map((segment) => compile(segment, baseName(base)));
    const plain = segments.findIndex((segment) => typeof segment !== "string");
    const rootLength = plain < 0 ? segments.length - 1 : Math.min(plain, segments.length - 1);
    this.root = `/${segments.slice(0, rootLength).join("/")}` as BytePath;
    this.folders = segments.slice(rootLength, -1);
    this.#last = segments[segments.length - 1]!;
    this.#base = base;
    this.#ofFamily = siblingParser(base);
  }

  /**
   * Undefined where the folder is none of this place. One whose name tells no age is some other folder.
   *
   * @param root what `root` really is, where that is a symbolic link
   */
  folderAt(folder: BytePath, root: BytePath = this.root): RotatedFolder | undefined {
    const stretches = this.#stretchesOf(folder, root);
    if (stretches === undefined) return undefined;
    const { stars, dates } = stretches;
    if (this.folders.length === 0) return { parse: (name) => this.#parse(name, undefined, dates) };
    const rank = Object.keys(dates).length > 0 ? dateRank(dates) : folderRankOf(stars.join("-"));
    if (rank === undefined || rank.kind === "none") return undefined;
    // `%d` begins again each month: the times of what lies in such folders tell.
    if (rank.kind === "modified") return { parse: (name) => this.#parse(name, undefined, dates) };
    return { rank, parse: (name) => this.#parse(name, rank, dates) };
  }

  #stretchesOf(folder: BytePath, root: BytePath): Stretches | undefined {
    if (this.folders.length === 0) return folder === root ? NOTHING : undefined;
    const prefix = root === "/" ? root : `${root}/`;
    if (!folder.startsWith(prefix)) return undefined;
    const names = folder.slice(prefix.length).split("/");
    if (names.length !== this.folders.length) return undefined;
    let all: Stretches = NOTHING;
    for (const [index, name] of names.entries()) {
      const found = match(this.folders[index]!, name);
      if (found === undefined) return undefined;
      all = { stars: [...all.stars, ...found.stars], dates: { ...all.dates, ...found.dates } };
    }
    return all;
  }

  #parse(name: BytePath, folderRank: FolderRank | undefined, folderDates: DateParts): Sibling | undefined {
    const member = this.#ofFamily(name);
    const inFolder = folderRank === undefined ? {} : { folderRank };
    if (member !== undefined && member.rank.kind !== "none") return { ...member, ...inFolder };
    const compression = formatOfName(name);
    const plainName = withoutFormatEnding(name) as BytePath;
    const stretches = match(this.#last, name) ?? match(this.#last, plainName);
    if (stretches === undefined) return undefined;
    const sibling = { name, plainName, ...(compression === undefined ? {} : { compression }) };
    if (Object.keys(stretches.dates).length > 0) {
      const rank = dateRank({ ...folderDates, ...stretches.dates });
      return rank === undefined ? undefined : { ...sibling, rank };
    }
    // The untouched name in another folder: the file was moved, and only its time tells when.
    const untouched: Rank = { kind: folderRank === undefined ? "modified" : "none" };
    const isTag = typeof this.#last !== "string" && this.#last.isTag;
    const isUntouched = plainName === baseName(this.#base) || stretches.stars.length === 0;
    const rank = isUntouched ? untouched : looseRank(stretches.stars.join(""), isTag);
    return rank === undefined ? undefined : { ...sibling, rank, ...inFolder };
  }
}

/** What `{name}` may stand for in a pattern of `rotated_to`, if it names this path: most of it is no log's name. */
export function* possibleNames(text: string, path: BytePath): Generator<BytePath> {
  const segments = pathFromText(text.endsWith("/") ? `${text}*` : text).split("/");
  const names = path.split("/");
  for (let fromEnd = 1; fromEnd <= Math.min(segments.length, names.length); fromEnd += 1) {
    const segment = segments[segments.length - fromEnd]!;
    const at = segment.indexOf(NAME);
    if (at < 0) continue;
    const name = names[names.length - fromEnd]!;
    const plain = fromEnd === 1 ? withoutFormatEnding(name) : name;
    const [before, behind] = [segment.slice(0, at), segment.slice(at + NAME.length)];
    const starts = isPlain(before) ? [before.length] : Array.from(plain, (_, start) => start);
    for (const start of starts) {
      if (isPlain(behind)) yield plain.slice(start, plain.length - behind.length) as BytePath;
      else for (let end = start + 1; end <= plain.length; end += 1) yield plain.slice(start, end) as BytePath;
    }
  }
}

function isPlain(text: string): boolean {
  return !/[*%]|\{name\}/.test(text);
}

/** Whether a name can be one that the segment stands for. */
export function matchesSegment(segment: Segment, name: string): boolean {
  return match(segment, name) !== undefined;
}

function match(segment: Segment, name: string): Stretches | undefined {
  if (typeof segment === "string") return segment === name ? NOTHING : undefined;
  const found = segment.source.exec(name);
  if (found === null) return undefined;
  const stars: string[] = [];
  const dates: { [letter in DateLetter]?: number } = {};
  segment.groups.forEach((group, index) => {
    const text = found[index + 1]!;
    if (group === "*") stars.push(text);
    else dates[group] = Number(text);
  });
  return { stars, dates };
}

function compile(segment: string, baseName: string): Segment {
  const groups: ("*" | DateLetter)[] = [];
  let isTag = false;
  let isBehindName = false;
  let text = "";
  let source = /^(?:\*|%[^%YmdHMSVs])/.test(segment) ? "(?!\\.)" : "";
  for (const [token] of segment.matchAll(/\{name\}|\*+|%[^/]|./gs)) {
    const letter = token[0] === "%" ? token.slice(1) : "";
    const plain = token === NAME ? baseName : letter === "%" ? "%" : token;
    if (isDateLetter(letter)) {
      groups.push(letter);
      source += `(${datePattern(letter)})`;
    } else if (token[0] === "*" || (letter !== "" && letter !== "%")) {
      isTag ||= isBehindName && groups.length === 0;
      groups.push("*");
      source += "(.*?)";
    } else {
      text += plain;
      source += escaped(plain);
    }
    isBehindName = token === NAME;
  }
  if (groups.length === 0) return text as BytePath;
  return { source: new RegExp(`^${source}$`, "s"), groups, isTag };
}
