import { type BytePath, joinPath } from "../runtime/byte-path.ts";
import type { PathPatterns } from "./glob.ts";
import { type Arrival, type Passage, WatchedFolder } from "./watched-folder.ts";

/**
 * Folders that symbolic links make a graph of: each is there once, however many chains of names lead to it. Of all chains
 * to a folder those are kept that differ in what the patterns say about the names in it, which is one for nearly all
 * folders and at most one for each Standing; so eight folders that link to each other cost eight listings, where their
 * chains are a hundred thousand.
 *
 * Of the chains with the same Standing the one stands for all that has the fewest symbolic links below the part
 * without wildcards, then the fewest names, then the smallest bytes. That depends on what lies on the disk only, and so is the same after a restart.
 *
 * Changes are worked in where they happen: a chain that vanishes is replaced by the next best of those that stay.
 */
export class FolderGraph {
  readonly folders = new Map<string, WatchedFolder>();
  readonly #patterns: PathPatterns;
  readonly #at = new Map<BytePath, WatchedFolder>();
  readonly #changed = new Set<WatchedFolder>();

  constructor(patterns: PathPatterns) {
    this.#patterns = patterns;
  }

  /** The folder that one of the kept paths leads to. */
  at(path: BytePath): WatchedFolder | undefined {
    return this.#at.get(path);
  }

  /** The passage leads to this folder from now on. */
  connect(passage: Passage, identity: string): WatchedFolder {
    this.disconnect(passage);
    let folder = this.folders.get(identity);
    if (folder === undefined) {
      folder = new WatchedFolder(identity);
      this.folders.set(identity, folder);
      // Seen to be unreachable, if that is so.
      this.#changed.add(folder);
    }
    passage.leadsTo = folder;
    folder.incoming.add(passage);
    for (const arrival of this.#through(passage)) this.#offer(folder, arrival);
    return folder;
  }

  /** The passage leads to no folder any more. */
  disconnect(passage: Passage): void {
    const folder = passage.leadsTo;
    if (folder === undefined) return;
    passage.leadsTo = undefined;
    folder.incoming.delete(passage);
    const affected = this.#removeAll(folder, passage);
    for (const each of affected) {
      for (const other of each.incoming) for (const arrival of this.#through(other)) this.#offer(each, arrival);
    }
  }

  /** The folders whose arrivals changed since the last call; those without any are no longer in the graph. */
  takeChanged(): WatchedFolder[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    for (const folder of changed) if (folder.arrivals.length === 0) this.#drop(folder);
    return changed;
  }

  #drop(folder: WatchedFolder): void {
    for (const passage of folder.incoming) {
      passage.leadsTo = undefined;
    }
    for (const passage of folder.passages) {
      passage.leadsTo?.incoming.delete(passage);
      passage.leadsTo = undefined;
    }
    folder.incoming.clear();
    if (this.folders.get(folder.identity) === folder) this.folders.delete(folder.identity);
  }

  /** All arrivals by way of this passage, and what goes on from them; the folders that lost one. */
  #removeAll(folder: WatchedFolder, passage: Passage): Set<WatchedFolder> {
    const affected = new Set<WatchedFolder>();
    const gone = folder.arrivals.filter(({ via }) => via === passage).map((arrival) => ({ folder, arrival }));
    for (let next = gone.pop(); next !== undefined; next = gone.pop()) {
      const { folder: owner, arrival } = next;
      owner.arrivals = owner.arrivals.filter((each) => each !== arrival);
      if (this.#at.get(arrival.path) === owner) this.#at.delete(arrival.path);
      this.#changed.add(owner);
      affected.add(owner);
      for (const { leadsTo } of owner.passages) {
        for (const below of leadsTo?.arrivals ?? []) {
          if (below.from === arrival) gone.push({ folder: leadsTo!, arrival: below });
        }
      }
    }
    return affected;
  }

  #through(passage: Passage): Arrival[] {
    const { within, name, isLink } = passage;
    if (within === undefined) {
      const standing = this.#patterns.standingOf(name);
      if (standing === undefined) return [];
      const names = name === "/" ? 0 : name.split("/").length - 1;
      return [{ path: name, standing, via: passage, from: undefined, links: 0, names }];
    }
    const arrivals: Arrival[] = [];
    for (const from of within.arrivals) {
      const standing = this.#patterns.below(from.standing, name);
      if (standing === undefined) continue;
      const path = joinPath(from.path, name);
      arrivals.push({ path, standing, via: passage, from, links: from.links + Number(isLink), names: from.names + 1 });
    }
    return arrivals;
  }

  /** Takes the arrival if it is better than what is there, and offers what goes on from it. */
  #offer(folder: WatchedFolder, arrival: Arrival): void {
    const offers = [{ folder, arrival }];
    for (let at = 0; at < offers.length; at += 1) {
      const { folder: target, arrival: candidate } = offers[at]!;
      const before = target.arrivals.find(({ standing }) => standing === candidate.standing);
      if (before !== undefined && compareArrivals(candidate, before) >= 0) continue;
      if (before !== undefined && this.#at.get(before.path) === target) this.#at.delete(before.path);
      const others = target.arrivals.filter((each) => each !== before);
      target.arrivals = [...others, candidate].sort(compareArrivals);
      this.#at.set(candidate.path, target);
      this.#changed.add(target);
      for (const passage of target.passages) {
        const { leadsTo } = passage;
        if (leadsTo === undefined) continue;
        for (const onward of this.#through(passage)) {
          if (onward.from === candidate) offers.push({ folder: leadsTo, arrival: onward });
        }
      }
    }
  }
}

/** Grows with every name that is added, so that no way round in a circle is better than standing still. */
function compareArrivals(a: Arrival, b: Arrival): number {
  return a.links - b.links || a.names - b.names || comparePaths(a.path, b.path);
}

/** By bytes, the slash before all others: so two paths keep their order when the same name is added to both. */
function comparePaths(a: BytePath, b: BytePath): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += 1) {
    const difference = rankAt(a, at) - rankAt(b, at);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function rankAt(path: BytePath, at: number): number {
  return path[at] === "/" ? -1 : path.charCodeAt(at);
}
