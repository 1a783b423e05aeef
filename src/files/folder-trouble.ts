import { Backoff } from "../runtime/backoff.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type { EventSink } from "../telemetry/events.ts";

/** Why a folder cannot be looked into, and when that is tried again. */
export interface Trouble {
  readonly backoff: Backoff;
  /** Monotonic. */
  retryAtMs: number;
  error: Error;
}

/** Tells of folders that cannot be looked into, once each, and when they can be again. */
export class FolderTroubles {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #events: EventSink;
  readonly #present = new Map<BytePath, Error>();

  constructor(clock: Clock, random: Random, events: EventSink) {
    this.#clock = clock;
    this.#random = random;
    this.#events = events;
  }

  /** Folders that cannot be looked into now, and why. */
  get present(): ReadonlyMap<BytePath, Error> {
    return this.#present;
  }

  /** One more attempt failed. */
  failed(where: { trouble: Trouble | undefined }, path: BytePath, error: Error): void {
    if (where.trouble === undefined) {
      const folder = pathToText(path);
      const backoff = new Backoff({ initialMs: 1000, maxMs: 30_000 }, this.#random);
      where.trouble = { backoff, retryAtMs: 0, error };
      this.#events.emit(
        "file_unreadable",
        `the folder ${folder} cannot be read (${error.message}); positions are kept`,
        { folder, error: error.message },
      );
    }
    this.#present.set(path, error);
    where.trouble.error = error;
    where.trouble.retryAtMs = this.#clock.monotonic() + where.trouble.backoff.next();
  }

  over(where: { trouble: Trouble | undefined }, path: BytePath): void {
    if (where.trouble === undefined) return;
    where.trouble = undefined;
    this.#present.delete(path);
    const folder = pathToText(path);
    this.#events.emit("file_readable", `${folder} can be read again`, { folder });
  }
}
