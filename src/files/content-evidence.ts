import type { BytePath } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import { type Content, isBeginningOf, isEqualStretch } from "./content.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import type { FileState } from "./file-state.ts";
import { FINGERPRINT_BYTES, GUARD_BYTES, marksMatch } from "./fingerprint.ts";
import type { SiblingFile } from "./rotation.ts";

/** How much of two files is compared before one counts as the beginning of the other. */
export const COMPARED_BYTES = 64 * 1024;

export interface Common {
  /** Bytes. */
  readonly common: number;
  readonly isProven: boolean;
}

export type Comparison = "match" | "mismatch" | "shorter";

/** What the bytes themselves say of two files (delivery contract, section 4); changes nothing. */
export class Evidence {
  readonly #options: DiscoveryOptions;

  constructor(options: DiscoveryOptions) {
    this.#options = options;
  }

  async compare(path: BytePath, state: FileState): Promise<Comparison | "unreadable"> {
    let content: Content | undefined;
    try {
      content = await this.#options.rotation.open(path);
      const { size } = await content.stat();
      return await this.compareContent(content, size, this.#options.rotation.formatOf(path) === undefined, state);
    } catch {
      return "unreadable";
    } finally {
      await content?.close().catch(() => undefined);
    }
  }

  async compareContent(content: Content, size: number, isPlain: boolean, state: FileState): Promise<Comparison> {
    if (state.fingerprint.length === 0) return "mismatch";
    const result = await marksMatch(content, state.identity);
    if (result !== "match" || state.offset === 0) return result;
    // The stored guard may end before the offset: content that ends before it cannot be read on.
    if (isPlain) return size >= state.offset ? "match" : "shorter";
    return (await content.read(Buffer.alloc(1), 0, 1, state.offset - 1)) === 1 ? "match" : "shorter";
  }

  /** How many bytes a copy surely has in common with its original, and whether it can be told. */
  async commonLength(content: Content, size: number | undefined, state: FileState): Promise<Common> {
    const atLeast = { common: state.offset, isProven: false };
    if (size === undefined) return { common: state.offset, isProven: true };
    if (state.location === undefined) return { ...atLeast, isProven: state.phase === "finished" };
    let original: Content | undefined;
    try {
      original = await this.#options.rotation.open(state.location);
      const end = Math.min(size, (await original.stat()).size);
      if (end < state.offset) return atLeast;
      const isEqual = await isEqualStretch(content, original, Math.max(0, end - GUARD_BYTES), end);
      return { common: isEqual ? end : state.offset, isProven: true };
    } catch {
      return atLeast;
    } finally {
      await original?.close().catch(() => undefined);
    }
  }

  /** Whether content that is shorter than what was read is the beginning of it; undefined: cannot be told. */
  async isPrefix(content: Content, size: number, state: FileState): Promise<boolean | undefined> {
    if (size === 0) return undefined;
    if (state.location !== undefined && this.#options.rotation.formatOf(state.location) === undefined) {
      let original: Content | undefined;
      try {
        original = await this.#options.rotation.open(state.location);
        if ((await marksMatch(original, state.identity)) === "match") {
          const isSameStart = await isEqualStretch(content, original, 0, Math.min(size, FINGERPRINT_BYTES));
          return isSameStart && (await isEqualStretch(content, original, Math.max(0, size - GUARD_BYTES), size));
        }
      } catch {
        // Gone meanwhile.
      } finally {
        await original?.close().catch(() => undefined);
      }
    }
    const marks = state.identityWithin(size);
    if (marks === undefined || size < marks.fingerprint.length) return undefined;
    return (await marksMatch(content, marks)) === "match";
  }

  /** A sibling that is the beginning of a file not read yet: copied, perhaps compressed, not yet truncated. */
  async isCopyOfNew(content: Content, sibling: SiblingFile, state: FileState): Promise<boolean> {
    if (state.location === undefined || sibling.stat.size === 0) return false;
    const original = await this.#options.rotation.open(state.location);
    try {
      if (sibling.format !== undefined) return await isBeginningOf(content, original);
      const size = sibling.stat.size;
      if ((await original.stat()).size < size) return false;
      const isSameStart = await isEqualStretch(content, original, 0, Math.min(size, FINGERPRINT_BYTES));
      return isSameStart && (await isEqualStretch(content, original, Math.max(0, size - COMPARED_BYTES), size));
    } finally {
      await original.close().catch(() => undefined);
    }
  }

  /** Late bytes may have gone into a file before it was compressed. */
  async hasMore(state: FileState, path: BytePath, stat: FileStat): Promise<boolean> {
    if (this.#options.rotation.formatOf(path) === undefined) return stat.size > state.size;
    const content = await this.#options.rotation.open(path);
    try {
      return (await content.read(Buffer.alloc(1), 0, 1, state.offset)) === 1;
    } catch {
      return false;
    } finally {
      await content.close().catch(() => undefined);
    }
  }
}
