import { errnoOf, toError } from "../errors.ts";
import { type BytePath, folderOf, pathToText } from "../runtime/byte-path.ts";
import type { Marks, SinkContext } from "../stage/index.ts";
import type { Output } from "./output.ts";
import { type ClosedOutput, type FileIdentity, isFileAt, type RotationIntent } from "./output-mark.ts";
import type { OutputMarks } from "./output-marks.ts";
import type { OutputOpener } from "./output-opener.ts";
import { freeName } from "./rotated-name.ts";

/** The file cannot get its new name; it keeps the old one, and nothing was begun. */
export class RotationRefused extends Error {}

/**
 * Rotation of an output, with appends held and its mark committed:
 *
 *     commit intent --> rename, never over anything --> fsync folder --> create --> fsync both
 *         --> commit {new output, length 0} and delete the intent, at once --> delete what is beyond `keep`
 *
 * Dying anywhere leaves either no intent (nothing happened) or one that `finish` carries out from where the disk is.
 *
 * With a `Successor` what was closed is handed on: it is recorded in the commit that deletes the intent, nothing is begun
 * in its place, and nothing is deleted here.
 */
export class Rotation {
  readonly #context: SinkContext;
  readonly #marks: OutputMarks;
  readonly #opener: OutputOpener;
  readonly #keep: number;
  readonly #successor: Successor | undefined;

  constructor(
    context: SinkContext,
    marks: OutputMarks,
    opener: OutputOpener,
    { keep, successor }: { keep: number; successor?: Successor | undefined },
  ) {
    this.#context = context;
    this.#marks = marks;
    this.#opener = opener;
    this.#keep = keep;
    this.#successor = successor;
  }

  /** Commits the intent to close the file at `path`. */
  async intend(path: BytePath, identity: FileIdentity): Promise<RotationIntent> {
    const { inode, fileSystem, birthNs } = identity;
    const to = await this.#freeName(path);
    const isLast = this.#successor === undefined ? {} : { isLast: true as const };
    const intent = { inode, fileSystem, birthNs, to, ...isLast };
    await this.#marks.save(path, { intent });
    return intent;
  }

  /**
   * Carries a committed intent out, from wherever it stands; may be called again after a failure. Resolves with the output
   * that was begun in its place, if any.
   * @throws RotationRefused once the intent is taken back, since the file cannot be renamed: it may be appended to.
   */
  async finish(path: BytePath): Promise<Output | undefined> {
    const { fileSystem, log } = this.#context;
    const intent = await this.#rename(path, this.#marks.intents.get(path)!);
    await fileSystem.syncFolder(folderOf(path));
    if (this.#successor !== undefined && intent.isLast) {
      const mark = this.#marks.outputs.get(path);
      const closed = { path: intent.to, ...identityIn(intent), beganAtMs: mark?.createdAtMs ?? 0 };
      await this.#marks.save(path, { intent: null, output: null, also: this.#successor.marksOf(closed, path) });
      this.#successor.take(closed, path);
      return undefined;
    }
    const closed = [...(this.#marks.closed.get(path) ?? [])];
    const isThere = await isFileAt(fileSystem, intent.to, intent);
    if (this.#keep > 0 && isThere) closed.push({ path: intent.to, ...identityIn(intent) });
    const output = await this.#opener.begin(path, { intent: null, closed });
    log.info({ path: pathToText(path), closed: pathToText(intent.to) }, "the output was rotated");
    if (this.#keep > 0) await this.#removeBeyond(path);
    return output;
  }

  async #rename(path: BytePath, intent: RotationIntent): Promise<RotationIntent> {
    const { fileSystem } = this.#context;
    let current = intent;
    while (await isFileAt(fileSystem, path, current)) {
      try {
        await fileSystem.renameNoReplace(path, current.to);
      } catch (error) {
        if (errnoOf(error) !== "EEXIST") {
          // The folder may be read-only, say. A log that grows too large is better than one that stands still.
          await this.#marks.save(path, { intent: null });
          throw new RotationRefused(`${pathToText(path)} cannot be renamed: ${toError(error).message}`, {
            cause: error,
          });
        }
        // Somebody took the name. The new one must be known before it exists.
        current = { ...current, to: await this.#freeName(path) };
        await this.#marks.save(path, { intent: current });
      }
    }
    return current;
  }

  #freeName(path: BytePath): Promise<BytePath> {
    const { fileSystem, clock } = this.#context;
    return freeName(fileSystem, path, clock.now(), (name) => this.#successor?.isTaken(name) ?? false);
  }

  /** Deletes the oldest closed outputs. Only those on the list, and only while the name still shows the same file. */
  async #removeBeyond(path: BytePath): Promise<void> {
    const { fileSystem, log } = this.#context;
    const closed: readonly ClosedOutput[] = this.#marks.closed.get(path) ?? [];
    const beyond = closed.slice(0, Math.max(0, closed.length - this.#keep));
    if (beyond.length === 0) return;
    try {
      for (const old of beyond) if (await isFileAt(fileSystem, old.path, old)) await fileSystem.unlink(old.path);
      await this.#marks.save(path, { closed: closed.slice(beyond.length) });
    } catch (error) {
      // They stay on the list for the next rotation.
      log.warn({ path: pathToText(path), error: String(error) }, "old outputs could not be deleted");
    }
  }
}

/** Who goes on with outputs that were closed. */
export interface Successor {
  /** What makes it known to the next start; committed together with the end of the rotation. */
  marksOf(closed: HandedOn, from: BytePath): Marks;
  /** True while this name of a closed output means something to it, whether a file has it or not. */
  isTaken(name: BytePath): boolean;
  /** That commit is durable. */
  take(closed: HandedOn, from: BytePath): void;
}

/** A closed output under its new name, which holds exactly what committed sets describe. */
export interface HandedOn extends ClosedOutput {
  /** When the output was begun; wall clock, milliseconds. */
  readonly beganAtMs: number;
}

function identityIn({ inode, fileSystem, birthNs }: FileIdentity): FileIdentity {
  return { inode, fileSystem, birthNs };
}
