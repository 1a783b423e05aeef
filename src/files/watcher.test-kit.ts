import { lstatSync, mkdtempSync, readdirSync, rmSync, type Stats, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BytePath } from "../runtime/byte-path.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import type { FileSystem, FolderChange } from "../runtime/file-system.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { silentLogger } from "../telemetry/log.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { PathPatterns } from "./glob.ts";
import { Watcher, type WatcherOptions } from "./watcher.ts";

/** A Watcher over a real folder. Scans are as far apart as the test says; the wall clock is the machine's own. */
export class WatcherBench {
  readonly folder = mkdtempSync(join(tmpdir(), "tailrace-watcher-"));
  readonly events: { readonly name: string; readonly facts: unknown }[] = [];
  readonly hints: FolderChange[] = [];
  #nowMs = 1_000_000;
  readonly #clock: Clock = { ...systemClock, now: () => Date.now(), monotonic: () => this.#nowMs };
  readonly #watchers: Watcher[] = [];

  path(name: string): string {
    return join(this.folder, name);
  }

  make(include: readonly string[], exclude: readonly string[] = [], options: Partial<WatcherOptions> = {}): Seen {
    const patterns = new PathPatterns(include, exclude, this.folder);
    const watcher = new Watcher({
      source: "app",
      patterns,
      fileSystem: nodeFileSystem,
      clock: this.#clock,
      random: new SeededRandom(1),
      events: { emit: (name, _message, ...facts) => void this.events.push({ name, facts: facts[0] }) },
      log: silentLogger,
      scanIntervalMs: 1000,
      idleScanIntervalMs: 10_000,
      maxFiles: 100_000,
      isKnown: () => false,
      onHint: (change) => void this.hints.push(change),
      ...options,
    });
    this.#watchers.push(watcher);
    return new Seen(watcher, patterns, this.folder, (ms) => this.pass(ms));
  }

  /** Monotonic time passes. */
  pass(ms: number): void {
    this.#nowMs += ms;
  }

  named(name: string): unknown[] {
    return this.events.filter((event) => event.name === name).map(({ facts }) => facts);
  }

  close(): void {
    for (const watcher of this.#watchers) watcher.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** What a Watcher has told so far: which paths there are, with their inodes. */
class Seen {
  readonly watcher: Watcher;
  readonly patterns: PathPatterns;
  readonly #folder: string;
  readonly #pass: (ms: number) => void;
  readonly #inodes = new Map<BytePath, bigint>();

  constructor(watcher: Watcher, patterns: PathPatterns, folder: string, pass: (ms: number) => void) {
    this.watcher = watcher;
    this.patterns = patterns;
    this.#folder = folder;
    this.#pass = pass;
  }

  /** The next scan: the paths that there are now, without the folder of the test. */
  async scan(passedMs = 1000): Promise<string[]> {
    this.#pass(passedMs);
    return this.look();
  }

  /** A look between two scans, at what was notified. */
  async look(): Promise<string[]> {
    for (const { path, stat, error } of await this.watcher.look()) {
      if (error !== undefined) continue;
      if (stat === undefined) this.#inodes.delete(path);
      else this.#inodes.set(path, stat.inode);
    }
    return this.paths;
  }

  get paths(): string[] {
    return [...this.#inodes.keys()].map((path) => path.slice(this.#folder.length + 1)).sort();
  }

  inodeAt(name: string): bigint | undefined {
    return this.#inodes.get(pathFromText(join(this.#folder, name)));
  }
}

/** A file system that never notifies of anything. */
export const silentFileSystem: FileSystem = { ...nodeFileSystem, watchFolder: () => ({ close() {} }) };

/**
 * What ought to be read, found the long way: along every chain of names up to a depth, of each file the path that matches
 * with the fewest symbolic links, then the fewest names, then the smallest bytes.
 */
export function findTheLongWay(folder: string, patterns: PathPatterns, depth: number): string[] {
  const best = new Map<string, { links: number; names: number; path: string }>();
  const roots = new Set(patterns.roots);
  const walk = (path: string, links: number, names: number): void => {
    for (const name of readdirSync(path)) {
      const below = join(path, name);
      const isLink = lstatSync(below).isSymbolicLink();
      const stat = statOf(below);
      // What a pattern names itself is no detour, link or not.
      const further = roots.has(pathFromText(below)) ? 0 : links + Number(isLink);
      if (stat?.isDirectory() && names < depth) walk(below, further, names + 1);
      if (!stat?.isFile() || patterns.judge(pathFromText(below)).kind !== "included") continue;
      const entry = `${statSync(path).ino}/${name}`;
      const before = best.get(entry);
      const found = { links, names, path: below };
      if (before === undefined || isBefore(found, before)) best.set(entry, found);
    }
  };
  walk(folder, 0, 0);
  return [...best.values()].map(({ path }) => path.slice(folder.length + 1)).sort();
}

/** Undefined also for a link that leads through a file, or round in a circle. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function isBefore(a: { links: number; names: number; path: string }, b: typeof a): boolean {
  const order = (path: string) => path.replaceAll("/", "\0");
  return (a.links - b.links || a.names - b.names || (order(a.path) < order(b.path) ? -1 : 1)) < 0;
}
