import { withoutFormatEnding } from "../../codec/decompress.ts";
import { type BytePath, baseName, folderOf, pathToText } from "../../runtime/byte-path.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { FileSystem } from "../../runtime/file-system.ts";
import { basesOf, type Sibling } from "../family.ts";
import { FamilyPlaces, type RotationPlace } from "./family-places.ts";
import { FolderNames } from "./folder-names.ts";
import type { Logrotate } from "./logrotate.ts";
import type { LogrotateNaming } from "./logrotate-config.ts";
import { logrotateBaseNames, makesOddNames } from "./logrotate-names.ts";
import { possibleNames } from "./rotated-to.ts";

export type { RotationPlace } from "./family-places.ts";

export interface RotationPlacesOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  /** `rotated_to` of the source. */
  readonly rotatedTo: readonly string[];
  /** Absent: its configuration is not asked. */
  readonly logrotate?: Logrotate;
}

/** A family's places are kept for so many logs; they are made anew from the path alone. */
const MAX_KEPT = 500;

/**
 * Where the old generations of a log lie, and what names there are of its family (delivery contract, section 4):
 *
 * - the folder of the log
 * - the `olddir` that logrotate's own configuration has for it
 * - the places of the option `rotated_to`
 * - the same folder as it was renamed to: `/var/log/app.1`, `/var/log/app-20260131` for `/var/log/app`
 * - as a guess, which counts only where content proves it: subfolders of the log's folder, and folders beside that with a
 *   usual name (`old`, `archive`), if they hold files with names of the family
 * - where a symbolic link leads to the log: the folders with older dates, `/logs/2026-01-30` for `/logs/2026-01-31`
 *
 * What lies in them is put into order by `oldestFirst`. A path is judged by its names alone; that it holds what the log
 * held is for others to prove.
 */
export class RotationPlaces {
  readonly #options: RotationPlacesOptions;
  readonly #names: FolderNames;
  readonly #kept = new Map<string, FamilyPlaces>();
  #revision = 0;
  #odd: { readonly revision: number; readonly namings: readonly LogrotateNaming[] } | undefined;

  constructor(options: RotationPlacesOptions) {
    this.#options = options;
    this.#names = new FolderNames(options.fileSystem, options.clock);
  }

  /** The options are others now. */
  forget(): void {
    this.#kept.clear();
  }

  /** Looks at logrotate's configuration, at most once a minute; `placesOf` does so by itself. Never rejects. */
  async refresh(): Promise<void> {
    await this.#options.logrotate?.refresh();
  }

  /**
   * The folders to list for the generations of a log, its own first, then those that are configured, then at most 64
   * others, the newest. No folder comes twice; one may not exist. Never rejects. Ask anew for each listing: what cannot
   * have changed is not looked at again.
   *
   * @param base the real path of the log (no symbolic links in front of its last name)
   * @param followedAs the name that the log is followed under, where it is another one
   */
  async placesOf(base: BytePath, followedAs: BytePath = base): Promise<readonly RotationPlace[]> {
    await this.refresh();
    return this.#familyOf(base, followedAs).places(this.#names);
  }

  /** The log's own folder only, known without a look at anything. */
  ownPlaceOf(base: BytePath): RotationPlace {
    return this.#familyOf(base, base).ownPlace;
  }

  /**
   * What a path is in the family of a log, by its names alone and without a look at the disk; undefined: nothing, or the
   * log itself. Knows of logrotate, and of what the configured folders really are, what the last `placesOf` found out.
   */
  memberAt(path: BytePath, base: BytePath, followedAs: BytePath = base): Sibling | undefined {
    return this.#familyOf(base, followedAs).memberAt(path);
  }

  /**
   * The logs, of those that are known, that `path` may be an old generation of; the likeliest first. Of `app.log.1.gz` it
   * is `app.log`, before `app.log.1`, which may be known, too; and what is told comes before what is guessed.
   *
   * @param namesakes the (real) paths of known logs with that last name
   */
  basesOf(path: BytePath, namesakes: (name: BytePath) => Iterable<BytePath>): BytePath[] {
    const bases = new Map<BytePath, number>();
    for (const name of this.#baseNamesOf(path)) {
      for (const base of namesakes(name)) {
        if (base === path) continue;
        const member = this.memberAt(path, base);
        if (member !== undefined) bases.set(base, Number(member.isGuess ?? false) + 2 * Number(isUntagged(member)));
      }
    }
    return [...bases.keys()].sort((a, b) => bases.get(a)! - bases.get(b)! || a.length - b.length);
  }

  /** For people: why generations of a log are looked for elsewhere; undefined if they are not. */
  whereKept(base: BytePath, followedAs: BytePath = base): string | undefined {
    const naming = this.#ruleOf(base, followedAs)?.naming;
    const olddir = this.#familyOf(base, followedAs).olddir;
    const said: string[] = [];
    if (naming?.olddir !== undefined && olddir !== undefined) {
      const { path, line } = naming.olddir;
      said.push(`logrotate keeps old ones in ${pathToText(olddir)} (${pathToText(path)}:${line})`);
    }
    if (this.#options.rotatedTo.length > 0) said.push(`rotated_to says ${this.#options.rotatedTo.join(", ")}`);
    return said.length === 0 ? undefined : said.join("; ");
  }

  /** The last names of logs that a path may be rotated from. */
  #baseNamesOf(path: BytePath): ReadonlySet<BytePath> {
    const name = baseName(path);
    const names = new Set([name, withoutFormatEnding(name) as BytePath, ...basesOf(name)]);
    for (const naming of this.#oddNamings) for (const base of logrotateBaseNames(naming, name)) names.add(base);
    for (const template of this.#options.rotatedTo) for (const base of possibleNames(template, path)) names.add(base);
    return names;
  }

  /** Rules that make names which no other way tells to be of a family. */
  get #oddNamings(): readonly LogrotateNaming[] {
    const { logrotate } = this.#options;
    if (logrotate === undefined) return [];
    if (this.#odd?.revision !== logrotate.revision) {
      const namings = logrotate.rules.map(({ naming }) => naming).filter(makesOddNames);
      this.#odd = { revision: logrotate.revision, namings };
    }
    return this.#odd.namings;
  }

  #ruleOf(base: BytePath, followedAs: BytePath) {
    const { logrotate } = this.#options;
    return logrotate?.ruleFor(followedAs) ?? logrotate?.ruleFor(base);
  }

  #familyOf(base: BytePath, followedAs: BytePath): FamilyPlaces {
    const { logrotate, rotatedTo } = this.#options;
    if (logrotate !== undefined && logrotate.revision !== this.#revision) {
      this.#revision = logrotate.revision;
      this.#kept.clear();
    }
    const key = base === followedAs ? base : `${base}\0${followedAs}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    if (this.#kept.size >= MAX_KEPT) this.#kept.clear();
    const isLinked = folderOf(base) !== folderOf(followedAs);
    const family = new FamilyPlaces(base, rotatedTo, this.#ruleOf(base, followedAs)?.naming, isLinked);
    this.#kept.set(key, family);
    return family;
  }
}

/** The log itself, moved or compressed. */
function isUntagged({ rank, folderRank }: Sibling): boolean {
  return rank.kind === "none" && folderRank === undefined;
}
