import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import type { Candidate } from "./survey.ts";

/** Paths of which nothing can be said yet: unreadable ones, archives that are still written, copies still made. */
export class UnsettledPaths {
  readonly #options: DiscoveryOptions;
  /** Whole archives by path, with the stat at which that was found. */
  readonly #whole = new Map<BytePath, string>();

  constructor(options: DiscoveryOptions) {
    this.#options = options;
  }

  unreadable(path: BytePath, error: Error): void {
    const { fileRegistry, events } = this.#options;
    const use = fileRegistry.paths.get(path);
    if (use?.kind === "unreadable") return;
    const file = pathToText(path);
    const message = `${file} cannot be looked at (${error.message}); its position is kept`;
    events.emit("file_unreadable", message, { file, error: error.message });
    // A file that is known stays: its tailer tries again by itself.
    if (use === undefined || use.kind !== "file") fileRegistry.setPath(path, { kind: "unreadable", error });
  }

  readable(path: BytePath): void {
    const file = pathToText(path);
    this.#options.fileRegistry.removePath(path);
    this.#options.events.emit("file_readable", `${file} can be read again`, { file });
  }

  /** An archive counts when it is whole, or when what it is made of is gone and nobody writes it any more. */
  async isReady(candidate: Candidate): Promise<boolean> {
    const { contents, rotateWaitMs, isOnce } = this.#options;
    const { path, id, stat, format } = candidate;
    if (format === undefined) return true;
    const version = `${id}:${stat.size}:${stat.modifiedMs}`;
    if (this.#whole.get(path) === version) return true;
    if (await contents.isWhole(path)) {
      this.#whole.set(path, version);
      return true;
    }
    if (!candidate.hasPlainTwin && (isOnce || this.#quietMs(candidate) >= rotateWaitMs)) return true;
    this.wait(candidate, "the archive is not complete");
    return false;
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

  /** What is not there any more needs no answer. */
  forget(path: BytePath): void {
    this.#whole.delete(path);
  }
}
