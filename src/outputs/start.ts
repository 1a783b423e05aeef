import { errnoOf } from "../errors.ts";
import { type BytePath, folderOf, joinPath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { SinkContext } from "../stage/index.ts";
import { saveCutBytes } from "./cut-bytes.ts";
import { identityOf, isSameFile, type OutputMark } from "./output-mark.ts";
import type { OutputMarks } from "./output-marks.ts";
import { type OutputOpener, shorterMessage } from "./output-opener.ts";
import { type Rotation, RotationRefused } from "./rotation.ts";

/** An output that was not written for so long is taken for closed, and forgotten at the next start. */
const REMEMBERED_MS = 7 * 24 * 3600 * 1000;

/**
 * Brings every recorded output back to its mark before anything is written: bytes past it belong to sets that were never
 * committed, so their records come again.
 *
 * | found            | after a clean stop  | after a crash |
 * |------------------|---------------------|---------------|
 * | as recorded      | goes on             | goes on |
 * | longer           | refused             | the rest is saved to `STATE_DIR/cut/`, then cut |
 * | shorter          | refused             | adopted, `output_foreign` |
 * | under another name | finished, a new one | cut, finished, a new one |
 * | not at all       | `output_missing`, a new one | the same |
 *
 * Then it carries out the rotations that a crash cut short.
 *
 * @param fixed the one output of a path without placeholders; marks of other outputs are then of an older configuration.
 * @param isHandedOn all that was recorded will be handed on to a successor: none of it is forgotten
 */
export async function settleRecordedOutputs(
  context: SinkContext,
  parts: { marks: OutputMarks; opener: OutputOpener; rotation: Rotation },
  fixed: BytePath | undefined,
  isHandedOn = false,
): Promise<void> {
  const { marks, opener, rotation } = parts;
  const finder = new Finder(context);
  const forgotten: BytePath[] = [];
  for (const [path, mark] of [...marks.outputs]) {
    const isOurs = fixed === undefined || path === fixed;
    const isRotating = marks.intents.has(path);
    const found = await finder.find(path, mark);
    if (found === undefined) {
      // The fixed output is reported when it is begun anew.
      if (!isRotating && path !== fixed && isOurs) opener.reportGone(path, false);
    } else if (!context.wasCleanStop) {
      await cutBack(context, parts, path, found, mark);
    } else if (found.stat.size !== mark.length && isOurs) {
      // Under another name it is not written any more: whatever became of it is no reason not to start.
      if (found.path === path) throw opener.foreign(path, found.stat.size, mark.length);
      const facts = { path: pathToText(found.path), size: found.stat.size, length: mark.length };
      context.events.emit(
        "output_foreign",
        `${pathToText(found.path)}, once ${pathToText(path)}, was changed after it was finished`,
        facts,
      );
    }
    const isLeft = !isOurs || context.clock.now() - mark.writtenAtMs > REMEMBERED_MS;
    // What somebody goes on with is not over, however old it is, and whatever the configuration says by now.
    const isOver = found?.path !== path || (isLeft && !isHandedOn);
    if (isOver && path !== fixed && !isRotating) forgotten.push(path);
  }
  await marks.forget(forgotten);
  for (const path of [...marks.intents.keys()]) {
    try {
      await (await rotation.finish(path))?.close();
    } catch (error) {
      if (!(error instanceof RotationRefused)) throw error;
      context.log.warn({ path: pathToText(path) }, error.message);
    }
  }
}

/** After a crash: what lies past the mark is saved and cut. Dying here is harmless, it is done again. */
async function cutBack(
  context: SinkContext,
  { marks, opener }: { marks: OutputMarks; opener: OutputOpener },
  path: BytePath,
  found: Found,
  mark: OutputMark,
): Promise<void> {
  const text = pathToText(found.path);
  if (found.stat.size === mark.length) return;
  if (found.stat.size < mark.length) {
    const { size } = found.stat;
    context.events.emit("output_foreign", shorterMessage(found.path, size, mark.length), {
      path: text,
      size,
      length: mark.length,
    });
    await marks.save(path, { output: { ...mark, length: size } });
    return;
  }
  const { handle, stat } = await opener.lock(found.path);
  try {
    const saved = await saveCutBytes(context, handle, path, mark.length, stat.size);
    await handle.truncate(mark.length);
    await handle.datasync();
    const facts = { path: text, bytes: stat.size - mark.length, saved: pathToText(saved) };
    context.log.info(facts, "bytes that no checkpoint covers were cut off the output; their records come again");
  } finally {
    await handle.close();
  }
}

interface Found {
  readonly path: BytePath;
  readonly stat: FileStat;
}

/** Finds recorded files at their path or, renamed, in its folder; each folder is read once. */
class Finder {
  readonly #context: SinkContext;
  readonly #folders = new Map<BytePath, readonly Found[]>();

  constructor(context: SinkContext) {
    this.#context = context;
  }

  async find(path: BytePath, mark: OutputMark): Promise<Found | undefined> {
    const { fileSystem } = this.#context;
    const stat = fileSystem.statSync(path);
    if (stat?.kind === "file" && isSameFile(mark, identityOf(stat, fileSystem))) return { path, stat };
    const files = await this.#filesIn(folderOf(path));
    return files.find((file) => isSameFile(mark, identityOf(file.stat, fileSystem)));
  }

  async #filesIn(folder: BytePath): Promise<readonly Found[]> {
    const known = this.#folders.get(folder);
    if (known !== undefined) return known;
    const { fileSystem } = this.#context;
    const files: Found[] = [];
    try {
      for (const entry of await fileSystem.readdir(folder)) {
        if (entry.kind !== "file" && entry.kind !== "unknown") continue;
        const path = joinPath(folder, entry.name);
        const stat = fileSystem.statSync(path);
        if (stat?.kind === "file") files.push({ path, stat });
      }
    } catch (error) {
      // A folder that is gone holds nothing; any other trouble must not pass for that.
      if (errnoOf(error) !== "ENOENT") throw error;
    }
    this.#folders.set(folder, files);
    return files;
  }
}
