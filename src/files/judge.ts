import type { Readable } from "./content.ts";
import type { FileState } from "./file-state.ts";
import { contentMark, readStretch } from "./fingerprint.ts";

/**
 * What the bytes say of some content and what is known of a file:
 *
 * - `same`: its first bytes and its guard are there, and it reaches as far as anything that was given out
 * - `shorter`: nothing differs as far as can be told, but it ends before what was given out
 * - `other`: something differs
 * - `alike`: nothing differs, and nothing proves it: no guard is known, or one in a hole. What is equal may be a header
 */
export type Verdict = "same" | "shorter" | "other" | "alike";

/** What is known of a file's content. */
export type KnownContent = Pick<FileState, "evidence" | "given">;

/**
 * THE judge of identity (delivery contract, section 4, "Match"): discovery asks it before it takes content for a file's,
 * and the tailer asks it of what it has opened. Both get the same answer of the same bytes.
 *
 * @param size of the content, bytes; undefined: not known (an archive)
 */
export async function judge(content: Readable, size: number | undefined, known: KnownContent): Promise<Verdict> {
  const { fingerprint, guard } = known.evidence;
  if (fingerprint.length > 0) {
    const first = await readStretch(content, 0, fingerprint.length);
    // A hash of more bytes than there are says nothing about these.
    if (first.length < fingerprint.length) return "shorter";
    if (contentMark(first).hash !== fingerprint.hash) return "other";
  }
  const { mark, end } = guard;
  if (mark.length === 0) {
    if (size !== undefined && size < known.given) return "shorter";
    return "alike";
  }
  const before = await readStretch(content, end - mark.length, mark.length);
  if (before.length < mark.length) return "shorter";
  if (contentMark(before).hash !== mark.hash) return "other";
  if (size !== undefined) return size >= known.given ? "same" : "shorter";
  if (known.given === 0) return "same";
  return (await content.read(Buffer.alloc(1), 0, 1, known.given - 1)) === 1 ? "same" : "shorter";
}
