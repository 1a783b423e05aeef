import type { CompressionFormat } from "../codec/decompress.ts";
import { errnoOf } from "../errors.ts";
import { type BytePath, baseName, folderOf, joinPath } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";
import type { Contents } from "./contents.ts";
import { basesOf, type Sibling } from "./family.ts";
import type { FileId, FileIds } from "./file-id.ts";
import { oldestFirst } from "./rotation-places/oldest-first.ts";
import type { RotationPlace, RotationPlaces } from "./rotation-places/rotation-places.ts";

/** A file that lies at a path, or beside it under a name that rotation gives. */
export interface Candidate {
  readonly path: BytePath;
  /** The path that it was, or may have been, rotated from; its own at home. */
  readonly base: BytePath;
  readonly stat: FileStat;
  readonly id: FileId;
  readonly format: CompressionFormat | undefined;
  /** The same name without its compression exists too: that one holds the content. */
  readonly hasPlainTwin: boolean;
  /** It lies at the path itself, under no rotated name. */
  readonly isHome: boolean;
  readonly isGuess: boolean;
}

/** How often a folder is looked at again while its names are being shifted. */
const MAX_LOOKS = 5;

/** A folder that changes all the time is listed so often in one pass; what comes later is for the next one. */
const MAX_LISTINGS = 16;

/** A folder that changed so recently, by the wall clock, may change again within the same tick of its time stamp. */
const COARSE_MS = 50;

interface Listing {
  readonly modifiedMs: number;
  readonly isFresh: boolean;
  /** Last names by the name that rotation may have made them of. */
  readonly byBase: ReadonlyMap<BytePath, readonly BytePath[]>;
  readonly names: ReadonlySet<BytePath>;
}

/**
 * What is on disk of the families of one pass. Each folder is listed once for all families in it, and again only where it
 * changed meanwhile: a listing is no snapshot, and while names are being shifted a file may be seen twice or not at all.
 */
export class Survey {
  readonly #fileSystem: FileSystem;
  readonly #ids: FileIds;
  readonly #contents: Contents;
  readonly #clock: Clock;
  readonly #places: RotationPlaces;
  readonly #listings = new Map<BytePath, Listing | "absent" | "unreadable">();
  readonly #counts = new Map<BytePath, number>();

  constructor(options: {
    fileSystem: FileSystem;
    ids: FileIds;
    contents: Contents;
    clock: Clock;
    places: RotationPlaces;
  }) {
    this.#fileSystem = options.fileSystem;
    this.#ids = options.ids;
    this.#contents = options.contents;
    this.#clock = options.clock;
    this.#places = options.places;
  }

  /**
   * The files that rotation made of `base`, oldest first, and behind them what is at `base` itself.
   *
   * @param isWide in every folder in which rotation may have put them; else in that of `base` only
   * @returns undefined if the folder cannot be read: nothing can be told
   */
  async family(base: BytePath, isWide: boolean): Promise<readonly Candidate[] | undefined> {
    let before: Candidate[] | undefined;
    const home = folderOf(base);
    const real = isWide ? await this.#fileSystem.realpath(home).catch(() => home) : home;
    const realBase = joinPath(real, baseName(base));
    for (let looks = 0; ; looks += 1) {
      const listed: { place: RotationPlace; listing: Listing }[] = [];
      const places = isWide ? await this.#places.placesOf(realBase, base) : [this.#places.ownPlaceOf(base)];
      for (const place of places) {
        const listing = await this.#list(place.folder);
        if (listing === "unreadable" && !place.isGuess) return undefined;
        if (typeof listing !== "string") listed.push({ place, listing });
      }
      const now = this.#look(base, realBase, listed);
      if (now === undefined || looks >= MAX_LOOKS) return now;
      const isCurrent = listed.every(({ place, listing }) => this.#isCurrent(place.folder, listing));
      if (isCurrent ? isSameLook(now, this.#look(base, realBase, listed)) : isSameLook(now, before)) return now;
      before = now;
      for (const { place } of listed) this.#listings.delete(place.folder);
    }
  }

  /** What lies at one path now, whatever its name; undefined: nothing, or that cannot be told. */
  at(path: BytePath): Candidate | undefined {
    const stat = this.#statFile(path);
    if (stat === undefined || stat === "unreadable") return undefined;
    return this.#candidate(path, path, stat, false, false);
  }

  #look(
    base: BytePath,
    realBase: BytePath,
    listed: readonly { place: RotationPlace; listing: Listing }[],
  ): Candidate[] | undefined {
    const own = baseName(base);
    const stats = new Map<BytePath, FileStat | undefined>();
    let canTell = true;
    const statOf = (path: BytePath): FileStat | undefined => {
      if (!stats.has(path)) {
        const stat = this.#statFile(path);
        if (stat === "unreadable") canTell = false;
        stats.set(path, stat === "unreadable" ? undefined : stat);
      }
      return stats.get(path);
    };
    const siblings: (Sibling & { hasPlainTwin: boolean })[] = [];
    for (const { place, listing } of listed) {
      const names = place.hasOddNames ? listing.names : new Set([own, ...(listing.byBase.get(own) ?? [])]);
      for (const name of names) {
        if (!listing.names.has(name)) continue;
        const sibling = place.parse(name);
        if (sibling === undefined) continue;
        const isPacked = sibling.compression !== undefined;
        if (isPacked && this.#contents.formatOf(sibling.name) === undefined) continue;
        const hasPlainTwin = isPacked && listing.names.has(baseName(sibling.plainName));
        siblings.push({ ...sibling, hasPlainTwin });
      }
    }
    const found: Candidate[] = [];
    for (const { name, hasPlainTwin, isGuess } of oldestFirst(siblings, (name) => statOf(name)?.modifiedMs)) {
      const stat = statOf(name);
      if (stat === undefined) continue;
      // As it is watched: below the folder's own name.
      const path = folderOf(name) === folderOf(realBase) ? joinPath(folderOf(base), baseName(name)) : name;
      found.push(this.#candidate(path, base, stat, hasPlainTwin, isGuess === true));
    }
    const home = statOf(base);
    if (home !== undefined) found.push(this.#candidate(base, base, home, false, false));
    return canTell ? found : undefined;
  }

  #candidate(path: BytePath, base: BytePath, stat: FileStat, hasPlainTwin: boolean, isGuess: boolean): Candidate {
    const format = this.#contents.formatOf(path);
    return { path, base, stat, id: this.#ids.idOf(stat), format, hasPlainTwin, isHome: path === base, isGuess };
  }

  async #list(folder: BytePath): Promise<Listing | "absent" | "unreadable"> {
    const known = this.#listings.get(folder);
    if (known !== undefined) return known;
    const listing = await this.#read(folder);
    this.#counts.set(folder, (this.#counts.get(folder) ?? 0) + 1);
    this.#listings.set(folder, listing);
    return listing;
  }

  async #read(folder: BytePath): Promise<Listing | "absent" | "unreadable"> {
    try {
      const stat = this.#fileSystem.statSync(folder);
      if (stat === undefined) return "absent";
      const names = (await this.#fileSystem.readdir(folder)).map((entry) => entry.name);
      const byBase = new Map<BytePath, BytePath[]>();
      for (const name of names) {
        for (const base of basesOf(name)) {
          const members = byBase.get(base);
          if (members === undefined) byBase.set(base, [name]);
          else members.push(name);
        }
      }
      const isFresh = Math.abs(this.#clock.now() - stat.modifiedMs) < COARSE_MS;
      return { modifiedMs: stat.modifiedMs, isFresh, byBase, names: new Set(names) };
    } catch (error) {
      const code = errnoOf(error);
      return code === "ENOENT" || code === "ENOTDIR" ? "absent" : "unreadable";
    }
  }

  /** The folder has not changed since it was listed. Where the time stamp cannot tell, it counts as changed once. */
  #isCurrent(folder: BytePath, listing: Listing): boolean {
    if ((this.#counts.get(folder) ?? 0) >= MAX_LISTINGS) return true;
    if (listing.isFresh) return false;
    try {
      return this.#fileSystem.statSync(folder)?.modifiedMs === listing.modifiedMs;
    } catch {
      return false;
    }
  }

  #statFile(path: BytePath): FileStat | "unreadable" | undefined {
    try {
      const stat = this.#fileSystem.statSync(path);
      return stat?.kind === "file" ? stat : undefined;
    } catch {
      return "unreadable";
    }
  }
}

function isSameLook(a: readonly Candidate[], b: readonly Candidate[] | undefined): boolean {
  if (b === undefined || a.length !== b.length) return false;
  return a.every((one, index) => one.path === b[index]!.path && one.id === b[index]!.id);
}
