import { errnoOf, toError } from "../errors.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { FileSystem, FolderChange, FolderWatch } from "../runtime/file-system.ts";
import type { Logger } from "../telemetry/log.ts";

/**
 * Folder notifications of the kernel, as far as its budget goes. They only make the next look sooner: each may be
 * missed, doubled or late, and where none can be had (inotify's limits, a network file system) the scan alone finds
 * everything.
 */
export class FolderWatches<Folder extends object> {
  readonly #fileSystem: FileSystem;
  readonly #log: Logger;
  readonly #onHint: (folder: Folder, name: BytePath | undefined, change: FolderChange) => void;
  readonly #watches = new Map<Folder, FolderWatch>();
  #isOutOfBudget = false;

  constructor(
    fileSystem: FileSystem,
    log: Logger,
    onHint: (folder: Folder, name: BytePath | undefined, change: FolderChange) => void,
  ) {
    this.#fileSystem = fileSystem;
    this.#log = log;
    this.#onHint = onHint;
  }

  /** Kernel watches that are held. */
  get count(): number {
    return this.#watches.size;
  }

  /** @param path any that leads to the folder now */
  add(folder: Folder, path: BytePath): void {
    if (this.#watches.has(folder) || this.#isOutOfBudget) return;
    try {
      const watch = this.#fileSystem.watchFolder(
        path,
        (name, change) => this.#onHint(folder, name, change),
        (error) => this.#lose(folder, error),
      );
      this.#watches.set(folder, watch);
    } catch (error) {
      this.#lose(folder, toError(error));
    }
  }

  remove(folder: Folder): void {
    this.#watches.get(folder)?.close();
    this.#watches.delete(folder);
  }

  close(): void {
    for (const watch of this.#watches.values()) watch.close();
    this.#watches.clear();
  }

  #lose(folder: Folder, error: Error): void {
    this.remove(folder);
    const code = errnoOf(error);
    if (code !== "ENOSPC" && code !== "EMFILE" && code !== "ENFILE") return;
    if (this.#isOutOfBudget) return;
    this.#isOutOfBudget = true;
    this.#log.warn(
      { error: error.message },
      "no more folder notifications: the kernel's inotify budget is used up. New data is found by scanning, up to scan_interval_ms later; raise fs.inotify.max_user_watches or max_user_instances to have it sooner",
    );
  }
}
