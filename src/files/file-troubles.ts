import { errnoOf, TailraceError } from "../errors.ts";
import { Backoff } from "../runtime/backoff.ts";
import { pathToText } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { FileState } from "./file-state.ts";

const LASTING = new Set(["EACCES", "EPERM", "ELOOP", "TR_ARCHIVE_UNSUPPORTED"]);

interface FileTroublesOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventSink;
}

/** Files that cannot be read at the moment: when each is tried again, and told once for each kind of error. */
export class FileTroubles {
  readonly #options: FileTroublesOptions;
  readonly #backoffs = new WeakMap<FileState, Backoff>();

  constructor(options: FileTroublesOptions) {
    this.#options = options;
  }

  /** It is to be tried again at `state.notBeforeMs`; the position stays. */
  failed(state: FileState, error: Error): void {
    const { clock, random, events } = this.#options;
    let backoff = this.#backoffs.get(state);
    if (backoff === undefined) {
      backoff = new Backoff({ initialMs: 250, maxMs: 30_000 }, random);
      this.#backoffs.set(state, backoff);
    }
    state.notBeforeMs = clock.monotonic() + backoff.next();
    const isKnown = state.trouble !== undefined && errnoOf(state.trouble.error) === errnoOf(error);
    state.trouble = { error, sinceMs: state.trouble?.sinceMs ?? clock.monotonic() };
    if (isKnown) return;
    const file = pathToText(state.location ?? state.path);
    const message = `${file} cannot be read (${error.message}); its position ${state.offset} is kept`;
    events.emit("file_unreadable", message, { file, offset: state.offset, error: error.message });
  }

  /** It will not pass while one waits: permissions and broken archives do not mend themselves, anything else has had its time. */
  isLasting({ trouble }: FileState, waitMs: number): boolean {
    if (trouble === undefined) return false;
    const code = errnoOf(trouble.error) ?? (trouble.error instanceof TailraceError ? trouble.error.code : "");
    if (LASTING.has(code)) return true;
    return this.#options.clock.monotonic() - trouble.sinceMs >= waitMs;
  }

  /** It was read. */
  mended(state: FileState): void {
    this.#backoffs.delete(state);
    if (state.trouble === undefined) return;
    state.trouble = undefined;
    const file = pathToText(state.location ?? state.path);
    this.#options.events.emit("file_readable", `${file} can be read again`, { file });
  }
}
