import type { BytePath } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";

/** A check reads and decompresses all of an archive: of the time that passes it takes no more than a tenth. */
const PAUSE_FACTOR = 9;
/** Archives of which an answer is remembered; what falls out is checked again if it is asked about. */
const MAX_REMEMBERED = 1000;

interface Answer {
  /** What the archive was when it was checked. */
  readonly version: string;
  readonly isWhole: boolean;
  /** Monotonic; a newer version is not checked before. */
  readonly againAtMs: number;
}

/**
 * Whether archives are whole, at a bounded cost: an archive that did not change is not decompressed again, and one that
 * is written slowly is not decompressed at each look.
 */
export class ArchiveChecks {
  readonly #clock: Clock;
  readonly #answers = new Map<BytePath, Answer>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Whether `path` is whole as it is now (`version`: anything that differs once it has changed). False also where it is too
   * early to look again. Rejects as `check` does.
   */
  async isWhole(path: BytePath, version: string, check: () => Promise<boolean>): Promise<boolean> {
    const before = this.#answers.get(path);
    if (before?.version === version) return before.isWhole;
    const startedMs = this.#clock.monotonic();
    if (before !== undefined && startedMs < before.againAtMs) return false;
    const isWhole = await check();
    const endedMs = this.#clock.monotonic();
    this.#answers.delete(path);
    this.#answers.set(path, { version, isWhole, againAtMs: endedMs + PAUSE_FACTOR * (endedMs - startedMs) });
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= MAX_REMEMBERED) break;
      this.#answers.delete(oldest);
    }
    return isWhole;
  }
}
