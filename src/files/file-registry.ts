import { type BytePath, baseName } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import { familyOf } from "./family.ts";
import type { FileId } from "./file-id.ts";
import type { FileState } from "./file-state.ts";
import type { RotationPlaces } from "./rotation-places/rotation-places.ts";

/**
 * What a path that matches stands for:
 * - `file`: it is (one of) the names of a file that is read or was
 * - `copy`: it holds what an original already gives us, up to `common`; nothing is read from it while that is so
 * - `waiting`: it cannot be told yet what it is
 * - `ignored`: nobody wants it (`ignore_older_ms`)
 * - `unreadable`: it cannot be looked at or into
 */
export type PathUse =
  | { readonly kind: "file"; readonly id: FileId; stat: FileStat; readonly state: FileState }
  | {
      readonly kind: "copy";
      readonly id: FileId;
      stat: FileStat;
      readonly of: FileState;
      readonly common: number;
      /** False while the original could not be looked into: `common` is only what was read of it. */
      readonly isProven: boolean;
      /** Monotonic. */
      readonly sinceMs: number;
    }
  | {
      readonly kind: "waiting";
      readonly id: FileId;
      stat: FileStat;
      readonly reason: string;
      readonly sinceMs: number;
    }
  | { readonly kind: "ignored"; readonly id: FileId; stat: FileStat; readonly reason: string }
  | { readonly kind: "unreadable"; readonly error: Error };

/** Every file of a source, to be found by key, by file system and inode, by path and by family. */
export class FileRegistry {
  readonly #places: RotationPlaces | undefined;
  /** Paths at which files were, by their last name. */
  readonly #namesakes = new Map<BytePath, Set<BytePath>>();
  readonly #byKey = new Map<string, FileState>();
  readonly #byId = new Map<FileId, FileState>();
  /** Who was in an inode when the store was written, and has not been looked for in this run. */
  readonly #claims = new Map<FileId, Set<FileState>>();
  readonly #families = new Map<BytePath, Set<FileState>>();
  /** Which file was last the one at a path. */
  readonly #owners = new Map<BytePath, FileState>();
  readonly #copyPaths = new Set<BytePath>();
  readonly paths = new Map<BytePath, PathUse>();

  constructor(places?: RotationPlaces) {
    this.#places = places;
  }

  /** Known paths that rotation may have made `path` of, in other folders. */
  elsewhere(path: BytePath): BytePath[] {
    return this.#places?.basesOf(path, (name) => this.#namesakes.get(name) ?? []) ?? [];
  }

  #homesOf(path: BytePath): BytePath[] {
    return [...new Set([path, familyOf(path).base, ...this.elsewhere(path)])];
  }

  get states(): IterableIterator<FileState> {
    return this.#byKey.values();
  }

  get size(): number {
    return this.#byKey.size;
  }

  add(state: FileState): void {
    this.#byKey.set(state.key, state);
    if (state.claim !== undefined) {
      const claimants = this.#claims.get(state.claim);
      if (claimants === undefined) this.#claims.set(state.claim, new Set([state]));
      else claimants.add(state);
    }
    for (const name of state.names) this.#joinFamily(name, state);
  }

  get(key: string): FileState | undefined {
    return this.#byKey.get(key);
  }

  remove(state: FileState): void {
    this.#byKey.delete(state.key);
    if (state.id !== undefined && this.#byId.get(state.id) === state) this.#byId.delete(state.id);
    this.dropClaim(state);
    for (const name of state.names) {
      if (this.#owners.get(name) === state) this.#owners.delete(name);
      for (const base of this.#homesOf(name)) {
        const members = this.#families.get(base);
        members?.delete(state);
        if (members?.size === 0) this.#families.delete(base);
      }
    }
  }

  addName(state: FileState, name: BytePath): void {
    state.addName(name);
    this.#joinFamily(name, state);
  }

  byId(id: FileId): FileState | undefined {
    return this.#byId.get(id);
  }

  /** Files that were in this inode when the store was written, the likeliest first. */
  claimants(id: FileId): readonly FileState[] {
    const isFinished = (state: FileState) => Number(state.phase === "finished");
    return [...(this.#claims.get(id) ?? [])].sort(
      (a, b) => isFinished(a) - isFinished(b) || b.lastSeenMs - a.lastSeenMs,
    );
  }

  /** Whether it is in that inode has been found out. */
  dropClaim(state: FileState): void {
    if (state.claim === undefined) return;
    const claimants = this.#claims.get(state.claim);
    claimants?.delete(state);
    if (claimants?.size === 0) this.#claims.delete(state.claim);
    state.claim = undefined;
  }

  /** It was proved that the content of `state` is where `id` is; undefined: it is not known where it is. */
  setId(state: FileState, id: FileId | undefined): void {
    if (id !== undefined) this.dropClaim(state);
    if (state.id !== undefined && this.#byId.get(state.id) === state) this.#byId.delete(state.id);
    state.id = id;
    if (id !== undefined) this.#byId.set(id, state);
  }

  ownerOf(path: BytePath): FileState | undefined {
    return this.#owners.get(path);
  }

  setOwner(path: BytePath, state: FileState): void {
    this.#owners.set(path, state);
    const namesakes = this.#namesakes.get(baseName(path)) ?? new Set();
    this.#namesakes.set(baseName(path), namesakes.add(path));
  }

  /** Some file was seen at this very path. */
  isKnown(path: BytePath): boolean {
    return this.#owners.has(path);
  }

  /** Files that were ever seen at `path`, or under a name that rotation gives to a file of that path. */
  family(path: BytePath): ReadonlySet<FileState> {
    return new Set(this.#homesOf(path).flatMap((home) => [...(this.#families.get(home) ?? [])]));
  }

  /** True if rotation gives `path` to what was at `base`, in its folder or in another. */
  isRotationOf(path: BytePath, base: BytePath): boolean {
    return path !== base && (familyOf(path).base === base || this.elsewhere(path).includes(base));
  }

  /** Paths that hold a copy of what `state` gives. */
  copiesOf(state: FileState): BytePath[] {
    const copies: BytePath[] = [];
    for (const member of this.#copyPaths) {
      const use = this.paths.get(member);
      if (use?.kind === "copy" && use.of === state) copies.push(member);
    }
    return copies;
  }

  setPath(path: BytePath, use: PathUse): void {
    this.paths.set(path, use);
    if (use.kind === "copy") this.#copyPaths.add(path);
    else this.#copyPaths.delete(path);
  }

  removePath(path: BytePath): void {
    this.paths.delete(path);
    this.#copyPaths.delete(path);
  }

  get copyPaths(): readonly BytePath[] {
    return [...this.#copyPaths];
  }

  #joinFamily(name: BytePath, state: FileState): void {
    for (const base of this.#homesOf(name)) {
      const members = this.#families.get(base);
      if (members === undefined) this.#families.set(base, new Set([state]));
      else members.add(state);
    }
  }
}

/** True if rotation has given `path` to a file that was at one of `names` before: `app.log.1` of `app.log`. */
export function isRotatedName(path: BytePath, names: readonly BytePath[]): boolean {
  const { base } = familyOf(path);
  return base !== path && names.includes(base);
}
