import { posix } from "node:path";
import { type BytePath, baseName, folderOf, joinPath } from "../../runtime/byte-path.ts";
import { type FolderRank, familyOf, type Sibling, siblingParser } from "../family.ts";
import type { FolderNames } from "./folder-names.ts";
import type { LogrotateNaming } from "./logrotate-config.ts";
import { logrotateNameParser, makesOddNames } from "./logrotate-names.ts";
import { folderRankOf } from "./loose-rank.ts";
import { compareRanks } from "./oldest-first.ts";
import { matchesSegment, RotatedTo } from "./rotated-to.ts";

/** A folder in which old generations of a log may lie; it may not exist. */
export interface RotationPlace {
  readonly folder: BytePath;
  /** Everything in it is older than what lies in the folder that the family lives in now. */
  readonly rank?: FolderRank;
  /** Nobody said that it is one: it counts only if something in it is proved, by content, to be of the family. */
  readonly isGuess?: true;
  /** Any name in it may be of the family; else only the log's own last name, and such as `familyOf` tells. */
  readonly hasOddNames: boolean;
  /**
   * What a name in this folder is in the family: `name` and `plainName` are whole paths, the ranks are for `oldestFirst`.
   * Undefined: it is none of the family, or the log itself.
   */
  parse(name: BytePath): Sibling | undefined;
}

type NameParser = (name: BytePath) => Sibling | undefined;

/** Folders with a rank that are listed for one log. */
const MAX_RANKED = 64;
/** A folder with more subfolders is no folder of logs that has one for the old ones. */
const MAX_GUESSES = 64;
/** Folders beside that of the log which many configurations have for the old ones of all. */
const USUAL_NAME = /^(?:old|olds|oldlogs|old[-_.]logs|archives?|archived|backups?|rotated|history)$/i;
/** Folders of one level that are asked for their times, to find the newest. */
const MAX_STATS = 4096;

/** Where the generations of one log lie, and what names in those folders mean. */
export class FamilyPlaces {
  readonly #base: BytePath;
  readonly #ownFolder: BytePath;
  readonly #ofFamily: NameParser;
  readonly #ofLogrotate: NameParser;
  readonly #hasOddNames: boolean;
  readonly #olddir: BytePath | undefined;
  readonly #templates: readonly RotatedTo[];
  readonly #renamed: NameParser;
  readonly #dated: DatedFolder | undefined;
  /** What the folders that are configured really are; filled while looking. */
  readonly #real = new Map<BytePath, BytePath>();
  readonly #guessed = new Set<BytePath>();

  /**
   * @param base the log's real path
   * @param isLinked it was reached through a symbolic link, which may have led to an older dated folder before
   */
  constructor(base: BytePath, templates: readonly string[], naming: LogrotateNaming | undefined, isLinked: boolean) {
    this.#base = base;
    this.#ownFolder = folderOf(base);
    this.#ofFamily = siblingParser(base);
    this.#ofLogrotate = naming === undefined ? () => undefined : logrotateNameParser(naming, base);
    this.#hasOddNames = naming !== undefined && makesOddNames(naming);
    this.#olddir = naming?.olddir && olddirOf(naming.olddir.folder, this.#ownFolder);
    this.#templates = templates.map((text) => new RotatedTo(text, base));
    this.#renamed = siblingParser(this.#ownFolder);
    this.#dated = isLinked ? datedFolderIn(this.#ownFolder) : undefined;
  }

  /** Where logrotate moves what is old. */
  get olddir(): BytePath | undefined {
    return this.#olddir;
  }

  /** What a path is in the family, by its names alone; undefined: nothing, or the log itself. */
  memberAt(path: BytePath): Sibling | undefined {
    return this.#placeAt(folderOf(path))?.parse(baseName(path));
  }

  /** The log's own folder. */
  get ownPlace(): RotationPlace {
    return this.#placeAt(this.#ownFolder)!;
  }

  /** The log's own folder first, then what is configured, then the newest folders with dates and numbers. */
  async places(names: FolderNames): Promise<RotationPlace[]> {
    const plain = new Set([this.#ownFolder]);
    const ranked = new Set<BytePath>();
    if (this.#olddir !== undefined) plain.add(await this.#realOf(this.#olddir, names));
    for (const template of this.#templates) {
      const root = await this.#realOf(template.root, names);
      if (template.folders.length === 0) plain.add(root);
      else for (const folder of await foldersOf(template, root, names)) ranked.add(folder);
    }
    const parent = folderOf(this.#ownFolder);
    for (const name of await names.rotatedFrom(parent, baseName(this.#ownFolder))) ranked.add(joinPath(parent, name));
    if (this.#dated !== undefined) {
      const { above, below } = this.#dated;
      for (const name of await names.in(above)) ranked.add((joinPath(above, name) + below) as BytePath);
    }
    for (const folder of await this.#guesses(names)) {
      const real = await names.real(folder);
      this.#guessed.add(real);
      ranked.add(real);
    }
    const first = [...plain].flatMap((folder) => this.#placeAt(folder) ?? []);
    const others = [...ranked].filter((folder) => !plain.has(folder)).flatMap((folder) => this.#placeAt(folder) ?? []);
    return [...first, ...newest(others)];
  }

  /** Subfolders of the log's folder, and folders beside it with a usual name, that hold something with a rotated name. */
  async #guesses(names: FolderNames): Promise<BytePath[]> {
    const parent = folderOf(this.#ownFolder);
    const below = await names.in(this.#ownFolder);
    const candidates = below
      .filter((name) => below.length <= MAX_GUESSES || USUAL_NAME.test(name))
      .map((name) => joinPath(this.#ownFolder, name));
    for (const name of await names.in(parent)) if (USUAL_NAME.test(name)) candidates.push(joinPath(parent, name));
    const found: BytePath[] = [];
    for (const folder of candidates.slice(0, MAX_GUESSES))
      if (await names.holdsRotated(folder, baseName(this.#base))) found.push(folder);
    return found;
  }

  #isGuess(folder: BytePath): boolean {
    const above = folderOf(folder);
    if (folder === this.#ownFolder) return false;
    if (this.#guessed.has(folder)) return true;
    return above === this.#ownFolder || (above === folderOf(this.#ownFolder) && USUAL_NAME.test(baseName(folder)));
  }

  async #realOf(folder: BytePath, names: FolderNames): Promise<BytePath> {
    const real = await names.real(folder);
    this.#real.set(folder, real);
    return real;
  }

  #placeAt(folder: BytePath): RotationPlace | undefined {
    const parsers: NameParser[] = [];
    let rank: FolderRank | undefined;
    let hasOddNames = this.#hasOddNames;
    if (folder === this.#ownFolder) parsers.push(this.#ofLogrotate, this.#ofFamily);
    if (this.#olddir !== undefined && (folder === this.#olddir || folder === this.#real.get(this.#olddir)))
      parsers.push(this.#ofLogrotate, tagged(this.#ofFamily));
    for (const template of this.#templates) {
      const found = template.folderAt(folder) ?? template.folderAt(folder, this.#real.get(template.root));
      if (found === undefined || isYounger(found.rank, template.folderAt(this.#ownFolder)?.rank)) continue;
      rank ??= found.rank;
      hasOddNames = true;
      parsers.push(found.parse);
    }
    const moved = this.#rankOfMoved(folder);
    if (moved !== undefined) {
      rank ??= moved;
      parsers.push(this.#inMoved(moved));
    }
    const isGuess = parsers.length === 0 && this.#isGuess(folder);
    if (isGuess) parsers.push(tagged(this.#ofFamily));
    if (parsers.length === 0) return undefined;
    const guess = isGuess ? { isGuess } : {};
    const parse = (name: BytePath): Sibling | undefined => {
      const path = joinPath(folder, name);
      if (path === this.#base) return undefined;
      for (const parser of parsers) {
        const sibling = parser(name);
        if (sibling !== undefined)
          return { ...sibling, name: path, plainName: joinPath(folder, sibling.plainName), ...guess };
      }
      return undefined;
    };
    return {
      folder,
      ...(rank === undefined || folder === this.#ownFolder ? {} : { rank }),
      ...guess,
      hasOddNames,
      parse,
    };
  }

  /** Of a folder that was the log's own before it was renamed, or before the link to it was switched. */
  #rankOfMoved(folder: BytePath): FolderRank | undefined {
    if (folder === this.#ownFolder) return undefined;
    if (folderOf(folder) === folderOf(this.#ownFolder)) {
      const member = this.#renamed(baseName(folder));
      const rank = member?.compression === undefined ? member?.rank : undefined;
      if (rank?.kind === "date" || rank?.kind === "number") return rank;
    }
    const dated = this.#dated;
    if (dated === undefined || !folder.startsWith(dated.above) || !folder.endsWith(dated.below)) return undefined;
    const other = datedFolderIn(folder);
    if (other?.above !== dated.above || other.below !== dated.below || other.stem !== dated.stem) return undefined;
    return isYounger(other.rank, dated.rank) ? undefined : other.rank;
  }

  /** What was in the log's folder then, and the log itself. */
  #inMoved(folderRank: FolderRank): NameParser {
    return (name) => {
      if (name === baseName(this.#base)) return { name, plainName: name, rank: { kind: "none" }, folderRank };
      const sibling = this.#ofLogrotate(name) ?? this.#ofFamily(name);
      return sibling === undefined ? undefined : { ...sibling, folderRank };
    };
  }
}

/** The olddir of a rule for a log in `ownFolder`. */
function olddirOf(olddir: string, ownFolder: BytePath): BytePath {
  return posix.resolve("/", ownFolder, olddir) as BytePath;
}

function tagged(parser: NameParser): NameParser {
  return (name) => {
    const sibling = parser(name);
    return sibling?.rank.kind === "none" ? undefined : sibling;
  };
}

/** The lowest name with a date in a folder's path: `/srv/app-` `2026-01-31` `/logs`. */
interface DatedFolder {
  readonly above: BytePath;
  /** What stands in front of the date in that name. */
  readonly stem: string;
  readonly rank: FolderRank;
  readonly below: string;
}

function datedFolderIn(folder: BytePath): DatedFolder | undefined {
  for (let path = folder; path !== "/"; path = folderOf(path)) {
    const name = baseName(path);
    const member = familyOf(name);
    const isTagged = member.rank.kind === "date";
    const rank = isTagged ? member.rank : folderRankOf(name);
    if (rank?.kind !== "date") continue;
    const stem = isTagged ? member.base : name.slice(0, name.search(/\d/));
    return { above: folderOf(path), stem, rank, below: folder.slice(path.length) };
  }
  return undefined;
}

/** Whether it is not older: of the same age, or of one that cannot be compared. */
function isYounger(rank: FolderRank | undefined, own: FolderRank | undefined): boolean {
  if (own === undefined) return false;
  return rank === undefined || rank.kind !== own.kind || compareRanks(rank, own) >= 0;
}

/** The folders that a place names by patterns; of many in one level, those that something was moved into last. */
async function foldersOf(template: RotatedTo, root: BytePath, names: FolderNames): Promise<readonly BytePath[]> {
  let level: BytePath[] = [root];
  for (const segment of template.folders) {
    const next: BytePath[] = [];
    for (const folder of level) {
      if (typeof segment === "string") next.push(joinPath(folder, segment));
      else
        for (const name of await names.in(folder)) if (matchesSegment(segment, name)) next.push(joinPath(folder, name));
    }
    level = next;
    if (level.length <= MAX_RANKED) continue;
    const byTime = level.slice(-MAX_STATS).map((folder) => ({ folder, modifiedMs: names.modifiedMs(folder) }));
    level = byTime
      .sort((a, b) => b.modifiedMs - a.modifiedMs)
      .slice(0, MAX_RANKED)
      .map(({ folder }) => folder);
  }
  return level;
}

/** The newest by rank, of each kind as many. */
function newest(places: readonly RotationPlace[]): RotationPlace[] {
  if (places.length <= MAX_RANKED) return [...places];
  const kinds = (["date", "number", undefined] as const).map((kind) =>
    places
      .filter(({ rank }) => rank?.kind === kind)
      .sort((a, b) => (a.rank === undefined || b.rank === undefined ? 0 : compareRanks(b.rank, a.rank))),
  );
  const kept: RotationPlace[] = [];
  for (let index = 0; kept.length < MAX_RANKED; index += 1)
    for (const kind of kinds) if (index < kind.length) kept.push(kind[index]!);
  return kept.slice(0, MAX_RANKED);
}
