import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/log.ts";
import type { ReadCounters } from "./tailer-options.ts";

/** What may happen to every file at once, or to every line, is said once in this time. */
const AGAIN_AFTER_MS = 60_000;

/** What a file source has to say of all its files together, so that 300 files in the same trouble are one message. */
export class SourceNotices {
  readonly #log: Logger;
  readonly #clock: Clock;
  #cutLinesTold = 0;
  #cutToldAtMs = Number.NEGATIVE_INFINITY;
  #unsavedToldAtMs = Number.NEGATIVE_INFINITY;

  constructor(log: Logger, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Looked at now and then. */
  cutLines({ cutLines }: ReadCounters, maxLineBytes: number): void {
    const now = this.#clock.monotonic();
    if (cutLines === this.#cutLinesTold || now - this.#cutToldAtMs < AGAIN_AFTER_MS) return;
    this.#log.warn(
      { lines: cutLines - this.#cutLinesTold, max_line_bytes: maxLineBytes },
      "lines longer than max_line_bytes were cut into several records",
    );
    this.#cutLinesTold = cutLines;
    this.#cutToldAtMs = now;
  }

  /** An entry could not be made durable; it is tried again. */
  unsaved(file: string, error: Error): void {
    const now = this.#clock.monotonic();
    if (now - this.#unsavedToldAtMs < AGAIN_AFTER_MS) return;
    this.#unsavedToldAtMs = now;
    this.#log.warn(
      { file, error: error.message },
      "new files wait: the checkpoint store takes no entry for them; this file is one of them",
    );
  }

  /** RLIMIT_NOFILE allows fewer open files than are configured. */
  fewerOpenFiles(wanted: number, allowed: number): void {
    this.#log.warn(
      { max_open_files: wanted, allowed },
      "the limit of open files of this process (ulimit -n) allows fewer than max_open_files; files take turns",
    );
  }
}
