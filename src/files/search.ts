import { folderOf, pathToText } from "../runtime/byte-path.ts";
import type { Agenda } from "./agenda.ts";
import type { Copies } from "./copies.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import type { FileState } from "./file-state.ts";
import type { LateBytes } from "./late-bytes.ts";
import type { SiblingFile } from "./rotation.ts";
import type { Whereabouts } from "./whereabouts.ts";

/** Looks for the content of files that no path leads to any more, for a while; then gives up, and says what is lost. */
export class Search {
  readonly #options: DiscoveryOptions;
  readonly #agenda: Agenda;
  readonly #whereabouts: Whereabouts;
  readonly #copies: Copies;
  readonly #lateBytes: LateBytes;

  constructor(
    options: DiscoveryOptions,
    agenda: Agenda,
    whereabouts: Whereabouts,
    copies: Copies,
    lateBytes: LateBytes,
  ) {
    this.#options = options;
    this.#agenda = agenda;
    this.#whereabouts = whereabouts;
    this.#copies = copies;
    this.#lateBytes = lateBytes;
  }

  /** Files that have no path which matches: where is their content now? */
  async settleDetached(state: FileState): Promise<void> {
    if (state.paths.size > 0) this.#agenda.missingSince.delete(state);
    else await this.#settle(state);
  }

  async #settle(state: FileState): Promise<void> {
    const { rotation, readers } = this.#options;
    if (this.#copies.take(state)) return;
    if (this.#agenda.isFirstPass && state.phase === "finished" && !this.#lateBytes.isOwner(state)) {
      await this.#lateBytes.followTombstone(state);
      return;
    }
    let isReborn = false;
    const found = await rotation.find(state, {
      isOther: (sibling) => this.#isOther(sibling, state),
      onReused: (id) => {
        isReborn = true;
        this.#agenda.reborn(id);
        this.#agenda.touchAll(state);
        this.#options.fileRegistry.setId(state, undefined);
      },
    });
    if (isReborn) await readers.stop(state);
    if (readers.holds(state)) {
      // Its descriptor reaches the content; the name is only for later.
      const isRenamed = found !== undefined && found !== "unknown" && found.sibling.id === state.id;
      if (isRenamed) this.#whereabouts.follow(state, found.sibling);
      if (state.phase === "live" || state.phase === "missing") {
        this.#whereabouts.rotated(state, isRenamed ? "renamed" : "deleted");
      }
      this.#agenda.touchAll(state);
      return;
    }
    if (found === "unknown") {
      this.#miss(state, false);
      return;
    }
    if (found !== undefined) {
      this.#agenda.missingSince.delete(state);
      const hasGrown =
        this.#options.rotation.formatOf(found.sibling.path) === undefined && found.sibling.stat.size !== state.size;
      this.#whereabouts.follow(state, found.sibling);
      if (state.phase !== "finished") this.#whereabouts.rotated(state, state.rotation ?? "renamed");
      else if (hasGrown || found.sibling.format !== undefined) this.#agenda.doubted.add(state);
      this.#agenda.touchAll(state);
      readers.read(state);
      return;
    }
    state.location = undefined;
    if (state.phase === "finished") {
      this.#options.fileRegistry.setId(state, undefined);
      return;
    }
    this.#miss(state, true);
  }

  /** A sibling that is surely another file: the home of one that is known and was not set aside as a copy. */
  #isOther(sibling: SiblingFile, state: FileState): boolean {
    const known = this.#options.fileRegistry.byId(sibling.id);
    if (known === undefined || known === state || known.copyOf !== undefined) return false;
    return known.paths.size > 0 || this.#options.readers.holds(known) || known.location === sibling.path;
  }

  /** Not to be found. Renames and compression take their moment, so it is searched for a while. */
  #miss(state: FileState, canTell: boolean): void {
    const { clock, rotateWaitMs, isOnce, events, fileSystem, ids } = this.#options;
    const nowMs = clock.monotonic();
    const isFirst = !this.#agenda.missingSince.has(state);
    const sinceMs = this.#agenda.missingSince.get(state) ?? nowMs;
    this.#agenda.missingSince.set(state, sinceMs);
    state.phase = "missing";
    const folder = folderOf(state.names[state.names.length - 1]!);
    let isHomeThere = false;
    try {
      const stat = fileSystem.statSync(folder);
      isHomeThere = stat?.kind === "folder" && ids.fileSystemOf(stat) === state.fileSystem;
    } catch {
      // Cannot be told; kept.
    }
    const text = pathToText(state.path);
    if (!canTell || !isHomeThere) {
      if (isFirst) {
        const reason = canTell ? "its folder or mount is gone" : "its folder cannot be read";
        events.emit("file_unreadable", `${text} is not there (${reason}); its position ${state.offset} is kept`, {
          file: text,
          offset: state.offset,
        });
      }
      state.isCaughtUp = true;
      if (isOnce) this.#agenda.missingSince.delete(state);
      return;
    }
    if (nowMs - sinceMs < rotateWaitMs && !(isOnce && !isFirst)) return;
    this.#giveUp(state);
  }

  /** The content has no name any more, and nobody holds it open. */
  #giveUp(state: FileState): void {
    const { clock, events, positions } = this.#options;
    this.#agenda.missingSince.delete(state);
    const text = pathToText(state.path);
    const lostBytes = state.size - state.offset;
    const isReplaced = state.paths.size === 0 && this.#hasSuccessor(state);
    if (lostBytes > 0 || (isReplaced && state.rotation === undefined)) {
      const what = lostBytes > 0 ? `${lostBytes} bytes` : "whatever was written after the last look";
      events.emit("gap", `${text} is gone, and with it ${what} from byte ${state.offset} on`, {
        file: text,
        offset: state.offset,
        ...(lostBytes > 0 ? { bytes: lostBytes } : {}),
      });
    }
    state.size = state.offset;
    state.readEnd = state.offset;
    state.phase = "finished";
    state.isCaughtUp = true;
    state.tombstoneSinceMs ??= clock.now();
    this.#agenda.touchAll(state);
    this.#options.fileRegistry.setId(state, undefined);
    if (state.isSaved) positions.saveLazily(new Map([[state.key, state.toEntry()]]));
  }

  #hasSuccessor(state: FileState): boolean {
    const owner = this.#options.fileRegistry.ownerOf(state.path);
    return owner !== undefined && owner !== state;
  }
}
