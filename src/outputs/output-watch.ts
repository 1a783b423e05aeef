import { errnoOf } from "../errors.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { SinkContext } from "../stage/index.ts";
import type { Output } from "./output.ts";
import { type OutputOpener, shorterMessage } from "./output-opener.ts";

/**
 * Sees what others do to our outputs:
 *
 * | the path shows     | what is done |
 * |--------------------|--------------|
 * | another file, none | the old one is finished at the next barrier, a new one begun: logrotate works on our output |
 * | our file, longer   | somebody else writes to it: the sink fails, nothing is cut |
 * | our file, shorter  | somebody cut it: adopted and reported |
 * | (no name at all)   | what no commit covers is written again, into a new one |
 */
export class OutputWatch {
  readonly #context: SinkContext;
  readonly #opener: OutputOpener;

  constructor(context: SinkContext, opener: OutputOpener) {
    this.#context = context;
    this.#opener = opener;
  }

  /**
   * Before an append, with no other under way. Cheap enough to do each time (one stat), and it is what keeps us from
   * writing into a file that logrotate has just moved away, or a hole into one that it has cut.
   * @throws StageError `TR_OUTPUT_FOREIGN`
   */
  look(output: Output): void {
    const stat = this.#context.fileSystem.statSync(output.path);
    if (!output.isFile(stat)) {
      output.rotation = "replaced";
      return;
    }
    const { size } = stat!;
    if (size > output.length) throw this.#opener.foreign(output.path, size, output.length);
    if (size === output.length) return;
    this.#reportShorter(output, size);
    output.adopt(size);
  }

  /**
   * Makes the first `length` bytes durable while appends go on; `isAtRest` says whether one is under way.
   * @returns how many of them are still there.
   * @throws StageError `TR_OUTPUT_FOREIGN`; anything else means that the bytes without a commit are in doubt.
   */
  async sync(output: Output, length: number, isAtRest: () => boolean): Promise<number> {
    try {
      await output.datasync();
    } catch (error) {
      // The kernel may have dropped the pages and says so only once: these bytes are never synced again.
      output.isInDoubt = true;
      throw error;
    }
    const own = await output.stat();
    const atPath = await this.#statOrNothing(output.path);
    if (own.links === 0) {
      output.isLost = true;
      throw new Error(`${pathToText(output.path)} was deleted before its bytes were committed`);
    }
    if (own.size > output.peak) throw this.#opener.foreign(output.path, own.size, output.peak);
    if (!output.isFile(atPath)) output.rotation = "replaced";
    if (own.size >= length) return length;
    this.#reportShorter(output, own.size);
    // An append under way cannot be moved: it lands where it was going, behind a hole.
    if (isAtRest()) output.adopt(own.size);
    return own.size;
  }

  #reportShorter(output: Output, size: number): void {
    const { path, length } = output;
    const facts = { path: pathToText(path), size, length };
    this.#context.events.emit("output_foreign", shorterMessage(path, size, length), facts);
  }

  async #statOrNothing(path: BytePath): Promise<FileStat | undefined> {
    try {
      return await this.#context.fileSystem.stat(path);
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
      throw error;
    }
  }
}
