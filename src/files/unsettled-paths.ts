import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import { ArchiveChecks } from "./archive-checks.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import type { Candidate } from "./survey.ts";

/** Paths of which nothing can be said yet: unreadable ones, archives that are still written, copies still made. */
export class UnsettledPaths {
  readonly #options: DiscoveryOptions;
  readonly #checks: ArchiveChecks;
  /** Paths that were told to be unreadable; true: a known file's. */
  readonly #told = new Map<BytePath, boolean>();

  constructor(options: DiscoveryOptions) {
    this.#options = options;
    this.#checks = new ArchiveChecks(options.clock);
  }

  /** A path cannot be looked at, or what lies there cannot be looked into; told once until that is over. */
  unreadable(path: BytePath, error: Error): void {
    const { fileRegistry, events } = this.#options;
    const use = fileRegistry.paths.get(path);
    // A file that is known stays: its tailer tries again by itself.
    if (use?.kind !== "file") fileRegistry.setPath(path, { kind: "unreadable", error });
    if (this.#told.has(path)) return;
    this.#told.set(path, use?.kind === "file");
    const file = pathToText(path);
    const message = `${file} cannot be looked at (${error.message}); its position is kept`;
    events.emit("file_unreadable", message, { file, error: error.message });
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
    const file = pathToText(path);
    this.#options.events.emit("file_readable", `${file} can be read again`, { file });
  }

  /** An archive counts when it is whole, or when what it is made of is gone and no program writes it any more. */
  async isReady(candidate: Candidate): Promise<boolean> {
    const { contents, isOnce } = this.#options;
    const { path, id, stat, format } = candidate;
    if (format === undefined) return true;
    // Whether it is whole or not: what can be read of it is read, and it costs nothing to find out.
    if (isOnce || (stat.size > 0 && this.#isQuiet(candidate))) return true;
    const version = `${id}:${stat.size}:${stat.modifiedMs}`;
    if (stat.size > 0 && (await this.#checks.isWhole(path, version, () => contents.isWhole(path)))) return true;
    this.wait(candidate, stat.size === 0 ? "it is empty" : "the archive is not complete");
    return false;
  }

  /** An archive beside the plain file that it is made of, which holds the content. */
  twin(candidate: Candidate): void {
    const { isOnce, fileRegistry } = this.#options;
    const { path, id, stat } = candidate;
    const plain = pathToText(path.slice(0, path.lastIndexOf(".")) as BytePath);
    const reason = `${plain} is there, which it is made of, and is read instead`;
    if (isOnce) fileRegistry.setPath(path, { kind: "ignored", id, stat, reason });
    else this.wait(candidate, reason);
  }

  /** Nobody has written it for a while, by its own time or as far as was seen. */
  #isQuiet(candidate: Candidate): boolean {
    const { clock, rotateWaitMs } = this.#options;
    return clock.now() - candidate.stat.modifiedMs >= rotateWaitMs || this.#quietMs(candidate) >= rotateWaitMs;
  }

  wait({ path, id, stat }: Candidate, reason: string): void {
    const { fileRegistry, clock } = this.#options;
    const before = fileRegistry.paths.get(path);
    const isSame =
      before?.kind === "waiting" && before.id === id && before.stat.size === stat.size && before.reason === reason;
    const sinceMs = isSame ? before.sinceMs : clock.monotonic();
    fileRegistry.setPath(path, { kind: "waiting", id, stat, reason, sinceMs });
  }

  /** How long a waiting candidate has not changed, milliseconds. */
  #quietMs({ path, id, stat }: Candidate): number {
    const before = this.#options.fileRegistry.paths.get(path);
    if (before?.kind !== "waiting" || before.id !== id || before.stat.size !== stat.size) return 0;
    return this.#options.clock.monotonic() - before.sinceMs;
  }

  /** Paths of which nothing could be told before. */
  reconsider(): BytePath[] {
    // All paths pass here once a second, and there are none to reconsider on most: nothing is made for each of them.
    const paths: BytePath[] = [];
    this.#options.fileRegistry.paths.forEach((use, path) => {
      if (use.kind === "copy" ? !use.isProven : use.kind === "waiting" || use.kind === "unreadable") paths.push(path);
    });
    return paths;
  }
}
