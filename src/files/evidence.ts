import { toError } from "../errors.ts";
import type { FileStat } from "../runtime/file-system.ts";
import { type Content, isBeginningOf, isEqualStretch, type Readable } from "./content.ts";
import type { Contents } from "./contents.ts";
import type { FileIds } from "./file-id.ts";
import type { FileState } from "./file-state.ts";
import { FINGERPRINT_BYTES, GUARD_BYTES, readStretch } from "./fingerprint.ts";
import { judge, type Verdict } from "./judge.ts";
import type { Candidate } from "./survey.ts";

/** How much of two files is compared before one counts as the beginning of the other. */
const COMPARED_BYTES = 64 * 1024;
/** How much that is yet unread of one file is compared with another. */
const MAX_CONTINUED_BYTES = 1024 * 1024;
/** How far back the bytes of a guard are looked for a second time. */
const REPETITION_BYTES = 16 * 1024;

/** What a candidate's content turned out to be; `stat` is of the very content that was looked at. */
export type Comparison =
  | { readonly verdict: Verdict; readonly stat: FileStat }
  /** It cannot be opened or read now. */
  | { readonly verdict: "unreadable"; readonly error: Error }
  /** Something else lies at its path by now. */
  | { readonly verdict: "gone" };

/** What the bytes at paths say, each looked at in one instant with its stat. Changes nothing. */
export class Evidence {
  readonly #contents: Contents;
  readonly #ids: FileIds;

  constructor(contents: Contents, ids: FileIds) {
    this.#contents = contents;
    this.#ids = ids;
  }

  /** Whether the content of the candidate is that of `state`, size and bytes as of one instant. */
  async compare(candidate: Candidate, state: FileState): Promise<Comparison> {
    return this.#with(candidate, async (content, size, stat) => ({ verdict: await judge(content, size, state), stat }));
  }

  /** The same with each of `states`, in one reading from front to back: an archive is unpacked once. */
  async compareAll(
    candidate: Candidate,
    states: readonly FileState[],
  ): Promise<ReadonlyMap<FileState, Verdict> | Error | "gone"> {
    const verdicts = new Map<FileState, Verdict>();
    const outcome = await this.#with(candidate, async (content, size, stat) => {
      const head = await readStretch(content, 0, FINGERPRINT_BYTES);
      const withHead: Readable = {
        read: async (into, intoOffset, length, offset) =>
          offset + length <= head.length
            ? head.copy(into, intoOffset, offset, offset + length)
            : content.read(into, intoOffset, length, offset),
      };
      const inOrder = [...states].sort((a, b) => a.evidence.guard.end - b.evidence.guard.end || a.given - b.given);
      for (const state of inOrder) verdicts.set(state, await judge(withHead, size, state));
      return { verdict: "same", stat };
    });
    if (outcome.verdict === "unreadable") return outcome.error;
    return outcome.verdict === "gone" ? "gone" : verdicts;
  }

  /** Whether the candidate is as much of `original` as it holds: a copy, whole or still being made. */
  async isCopyOf(candidate: Candidate, original: Content): Promise<boolean | undefined> {
    const found = await this.#with(candidate, async (content, size, stat) => {
      if (size === undefined)
        return { verdict: (await isBeginningOf(content, original)) ? ("same" as const) : ("other" as const), stat };
      if (size === 0 || (await original.stat()).size < size) return { verdict: "other" as const, stat };
      const isSameStart = await isEqualStretch(content, original, 0, Math.min(size, FINGERPRINT_BYTES));
      const isCopy = isSameStart && (await isEqualStretch(content, original, Math.max(0, size - COMPARED_BYTES), size));
      return { verdict: isCopy ? ("same" as const) : ("other" as const), stat };
    });
    if (found.verdict === "unreadable" || found.verdict === "gone") return undefined;
    return found.verdict === "same";
  }

  /** Whether what lies at the candidate goes on like `original`, as far as both reach; undefined: that cannot be told. */
  async agrees(candidate: Candidate, original: Content): Promise<boolean | undefined> {
    const found = await this.#with(candidate, async (content, size, stat) => {
      const end = Math.min(size ?? 0, (await original.stat()).size);
      const isSame =
        (await isEqualStretch(content, original, 0, Math.min(end, FINGERPRINT_BYTES))) &&
        (await isEqualStretch(content, original, Math.max(0, end - COMPARED_BYTES), end));
      return { verdict: isSame ? ("same" as const) : ("other" as const), stat };
    });
    if (found.verdict === "unreadable" || found.verdict === "gone") return undefined;
    return found.verdict === "same";
  }

  /** Whether the candidate holds what `original` holds from `from` on too; where that is too much to compare, it does not. */
  async continues(candidate: Candidate, original: Content, from: number): Promise<boolean | undefined> {
    const found = await this.#with(candidate, async (content, _, stat) => {
      const { size } = await original.stat();
      const isComparable = size - from <= MAX_CONTINUED_BYTES;
      const isSame = isComparable && (await isEqualStretch(content, original, from, size));
      return { verdict: isSame ? ("same" as const) : ("other" as const), stat };
    });
    if (found.verdict === "unreadable" || found.verdict === "gone") return undefined;
    return found.verdict === "same";
  }

  /**
   * Whether the bytes that guard `state` stand in this content at an earlier place too: lines that are all equal (a
   * heartbeat), so that equal bytes at the right place prove little.
   */
  async isRepetitive(candidate: Candidate, state: FileState): Promise<boolean> {
    const { guard } = state.evidence;
    if (guard.mark.length === 0) return true;
    const found = await this.#with(candidate, async (content, _, stat) => {
      const from = Math.max(0, guard.end - REPETITION_BYTES);
      const bytes = await readStretch(content, from, guard.end - from + REPETITION_BYTES);
      const at = guard.end - guard.mark.length - from;
      const window = bytes.subarray(Math.max(0, at), guard.end - from);
      const isAgain = bytes.indexOf(window) < at || bytes.indexOf(window, at + 1) >= 0;
      return { verdict: isAgain ? ("same" as const) : ("other" as const), stat };
    });
    return found.verdict === "same";
  }

  /** Whether its first lines are equal: then so are perhaps all, and those of any other generation. */
  async isUniform(candidate: Candidate): Promise<boolean> {
    const found = await this.#with(candidate, async (content, _, stat) => {
      const bytes = await readStretch(content, 0, REPETITION_BYTES);
      const length = bytes.indexOf(0x0a) + 1;
      const isSame = length > 0 && bytes.length >= 2 * length && isEqual(bytes, length);
      return { verdict: isSame ? ("same" as const) : ("other" as const), stat };
    });
    return found.verdict === "same";
  }

  /** How many bytes a copy surely has in common with its original. */
  async commonLength(candidate: Candidate, original: Content): Promise<number | undefined> {
    let common: number | undefined;
    await this.#with(candidate, async (content, size, stat) => {
      const end = Math.min(size ?? 0, (await original.stat()).size);
      if (await isEqualStretch(content, original, Math.max(0, end - GUARD_BYTES), end)) common = end;
      return { verdict: "same", stat };
    });
    return common;
  }

  async #with(
    candidate: Candidate,
    look: (content: Content, size: number | undefined, stat: FileStat) => Promise<Comparison>,
  ): Promise<Comparison> {
    let content: Content | undefined;
    try {
      content = await this.#contents.open(candidate.path);
      const before = await content.stat();
      if (before.kind !== "file" || this.#ids.idOf(before) !== candidate.id) return { verdict: "gone" };
      const isPlain = candidate.format === undefined;
      const found = await look(content, isPlain ? before.size : undefined, before);
      // What shrank meanwhile was perhaps read of two contents.
      if (isPlain && (await content.stat()).size < before.size) return { verdict: "gone" };
      return found;
    } catch (error) {
      return { verdict: "unreadable", error: toError(error) };
    } finally {
      await content?.close().catch(() => undefined);
    }
  }
}

/** Whether the first so many bytes stand there twice. */
function isEqual(bytes: Buffer, length: number): boolean {
  return bytes.subarray(0, length).equals(bytes.subarray(length, 2 * length));
}
