import type { BytePath } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { EventSink } from "../telemetry/events.ts";

interface FileLimitOptions {
  readonly source: string;
  readonly clock: Clock;
  readonly events: EventSink;
  readonly maxFiles: number;
  readonly isKnown: (path: BytePath) => boolean;
}

/** It is over when nothing was left out for so long, so that files that come and go do not make an event each. */
const OVER_AFTER_MS = 10_000;

/** `max_files`: how many paths are looked at, and what is told of those that are not. */
export class FileLimit {
  /** Paths that match and are not looked at. */
  leftOut = 0;
  readonly #options: FileLimitOptions;
  #isTold = false;
  /** Monotonic, of the last time that something was left out. */
  #reachedAtMs = 0;

  constructor(options: FileLimitOptions) {
    this.#options = options;
  }

  /** Whether there is room for one more beside `count`. What was followed before is never dropped. */
  allows(path: BytePath, count: number): boolean {
    return count < this.#options.maxFiles || this.#options.isKnown(path);
  }

  /** Tells when it is reached, and when that is over. */
  tell(): void {
    const { source, clock, events, maxFiles } = this.#options;
    if (this.leftOut > 0) {
      this.#reachedAtMs = clock.monotonic();
      if (this.#isTold) return;
      this.#isTold = true;
      events.emit(
        "file_limit_reached",
        `source ${source}: ${this.leftOut} files match beyond max_files = ${maxFiles}, and are not read; raise max_files, or let include and exclude match fewer`,
        { source, max_files: maxFiles, left_out: this.leftOut },
      );
    } else if (this.#isTold && clock.monotonic() - this.#reachedAtMs >= OVER_AFTER_MS) {
      this.#isTold = false;
      events.emit("file_limit_over", `source ${source}: all files that match are read again`, {
        source,
        max_files: maxFiles,
      });
    }
  }
}
