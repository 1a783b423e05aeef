import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { Agenda } from "./agenda.ts";
import { ArchiveChecks } from "./archive-checks.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import { type Group, lookAt } from "./sighting.ts";

/** Paths of which nothing can be said yet: unreadable ones, archives that are still written, copies still made. */
export class UnsettledPaths {
  readonly #options: DiscoveryOptions;
  readonly #agenda: Agenda;
  readonly #checks: ArchiveChecks;
  /** Paths that were told to be unreadable; true: a known file's. */
  readonly #told = new Map<BytePath, boolean>();

  constructor(options: DiscoveryOptions, agenda: Agenda) {
    this.#options = options;
    this.#agenda = agenda;
    this.#checks = new ArchiveChecks(options.clock);
  }

  /** A path cannot be looked at, or what lies there cannot be looked into; told once until that is over. */
  unreadable(path: BytePath, error: Error): void {
    const use = this.#options.fileRegistry.paths.get(path);
    // A file that is known stays: its tailer tries again by itself.
    if (use?.kind !== "file") this.#options.fileRegistry.setPath(path, { kind: "unreadable", error });
    if (this.#told.has(path)) return;
    this.#told.set(path, use?.kind === "file");
    const text = pathToText(path);
    this.#options.events.emit(
      "file_unreadable",
      `${text} cannot be looked at (${error.message}); its position is kept`,
      {
        file: text,
        error: error.message,
      },
    );
  }

  /** The path can be looked at: of a file that is known that is all there is to say. */
  lookedAt(path: BytePath): void {
    if (this.#told.get(path) === true) this.#readable(path);
  }

  /** Tells of paths that were unreadable and turned out to be something; at the end of a pass. */
  tellReadable(): void {
    for (const [path, isFile] of this.#told) {
      const use = this.#options.fileRegistry.paths.get(path);
      if (use === undefined) this.#told.delete(path);
      else if (!isFile && use.kind !== "unreadable") this.#readable(path);
    }
  }

  #readable(path: BytePath): void {
    this.#told.delete(path);
    const text = pathToText(path);
    this.#options.events.emit("file_readable", `${text} can be read again`, { file: text });
  }

  /** An archive counts when it is whole, or when what it is made of is gone and nobody writes it any more. */
  async isReady(path: BytePath, group: Group): Promise<boolean> {
    const { fileSystem, rotation, isOnce } = this.#options;
    if (this.#options.rotation.formatOf(path) === undefined) return true;
    const twin = path.slice(0, path.lastIndexOf(".")) as BytePath;
    const hasTwin = fileSystem.statSync(twin) !== undefined;
    const { id, stat } = group;
    // Whether it is whole or not: what can be read of it is read, and it costs nothing to find out.
    if (!hasTwin && (isOnce || (stat.size > 0 && this.#isQuiet(path, group)))) return true;
    const version = `${id}:${stat.size}:${stat.modifiedMs}`;
    if (stat.size > 0 && (await this.#checks.isWhole(path, version, () => rotation.isWhole(path)))) return true;
    if (isOnce) {
      const reason = `the archive is not complete, and ${pathToText(twin)} is there, which it is made of`;
      for (const each of group.paths)
        this.#options.fileRegistry.setPath(each, { kind: "ignored", id: group.id, stat: group.stat, reason });
      return false;
    }
    this.wait(group, group.stat.size === 0 ? "it is empty" : "the archive is not complete");
    return false;
  }

  /** Nobody has written it for a while, by its own time or as far as was seen. */
  #isQuiet(path: BytePath, group: Group): boolean {
    const { clock, rotateWaitMs } = this.#options;
    return clock.now() - group.stat.modifiedMs >= rotateWaitMs || this.quietMs(path, group) >= rotateWaitMs;
  }

  wait(group: Group, reason: string): void {
    const { clock } = this.#options;
    for (const path of group.paths) {
      const before = this.#options.fileRegistry.paths.get(path);
      const isSame =
        before?.kind === "waiting" &&
        before.id === group.id &&
        before.stat.size === group.stat.size &&
        before.reason === reason;
      this.#options.fileRegistry.setPath(path, {
        kind: "waiting",
        id: group.id,
        stat: group.stat,
        reason,
        sinceMs: isSame ? before.sinceMs : clock.monotonic(),
      });
    }
  }

  /** How long a waiting group has not changed, milliseconds. */
  quietMs(path: BytePath, group: Group): number {
    const before = this.#options.fileRegistry.paths.get(path);
    if (before?.kind !== "waiting" || before.id !== group.id || before.stat.size !== group.stat.size) return 0;
    return this.#options.clock.monotonic() - before.sinceMs;
  }

  /** What could not be told before, and whether it can be now. */
  reconsider(): void {
    // All paths pass here once a second, and there are none to reconsider on most: nothing is made for each of them.
    const open: BytePath[] = [];
    this.#options.fileRegistry.paths.forEach((use, path) => {
      if (use.kind === "copy" ? !use.isProven : use.kind === "waiting" || use.kind === "unreadable") open.push(path);
    });
    for (const path of open) {
      const sighting = lookAt(this.#options.fileSystem, path);
      if (sighting.error !== undefined) continue;
      if (sighting.stat === undefined) {
        this.#options.fileRegistry.removePath(path);
        continue;
      }
      this.#agenda.enter(path, this.#options.ids.idOf(sighting.stat), sighting.stat, false);
    }
  }
}
