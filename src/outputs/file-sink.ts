import { errnoOf, StageError, toError } from "../errors.ts";
import type { Batch } from "../record/index.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import { delivered, type Marks, type Outcome, rejected, retry, type Sink, type SinkContext } from "../stage/index.ts";
import { OpenOutputs } from "./open-outputs.ts";
import type { FileSinkOptions } from "./options.ts";
import { Hold, type Output } from "./output.ts";
import { OutputFolder, RefusedPath } from "./output-folder.ts";
import { identityOf, isSameFile, outputMarkName, toJson } from "./output-mark.ts";
import { OutputMarks } from "./output-marks.ts";
import { OutputOpener } from "./output-opener.ts";
import { OutputWatch } from "./output-watch.ts";
import { type OutputNames, type Part, RecordRouting } from "./record-routing.ts";
import { Rotation, RotationRefused, type Successor } from "./rotation.ts";
import { settleRecordedOutputs } from "./start.ts";
import { PathTemplate } from "./template.ts";

/**
 * Appends records to files, each exactly once, by the barrier (delivery contract, section 6):
 *
 *     write  write  write | write  write ...                        appends go on meanwhile
 *                         |
 *                  prepare: note the lengths -> fdatasync -> look --> marks --(commit with the sets)--> committed
 *                                                  |                                                       |
 *                                     failed: go back to the committed lengths         rotate what was held back since `prepare`
 *
 * A batch is all or nothing over all outputs that it touches. What lies past a committed mark is cut after a crash and
 * comes again, so nothing is there twice.
 */
export class FileSink implements Sink {
  readonly #context: SinkContext;
  readonly #options: FileSinkOptions;
  readonly #template: OutputNames;
  readonly #pack: ((buffers: readonly Buffer[]) => Buffer) | undefined;
  readonly #successor: Successor | undefined;
  readonly #marks: OutputMarks;
  readonly #opener: OutputOpener;
  readonly #watch: OutputWatch;
  readonly #rotation: Rotation;
  /** Only for paths with placeholders. */
  #folder: OutputFolder | undefined;
  readonly #routing: RecordRouting;
  readonly #open: OpenOutputs;
  /** The one output of a path without placeholders, without symbolic links. */
  #fixed: BytePath | undefined;
  #writing: Promise<void> | undefined;
  /** Set while what was written since the last commit is taken back: nothing new may land before it is written again. */
  #isGoingBack = false;
  /** True until the next barrier after going back: the same batches fitted before, and no barrier can come between them. */
  #isRewriting = false;
  /** A foreign writer was seen: nothing is written or cut any more. */
  #isFailed = false;
  #noted: readonly Noted[] = [];
  /** Outputs that the barrier under way holds back for their rotation. */
  #held: readonly Output[] = [];
  /** Rotations under way. */
  readonly #rotating = new Set<Promise<void>>();

  private constructor(options: FileSinkOptions, context: SinkContext, parts: FileSinkParts) {
    this.#context = context;
    this.#options = options;
    this.#template = parts.names ?? new PathTemplate(options.path);
    this.#pack = parts.pack;
    this.#successor = parts.successor;
    this.#routing = new RecordRouting(this.#template, options.encoding, context);
    this.#open = new OpenOutputs(options.max_open_outputs);
    this.#marks = new OutputMarks(context);
    this.#opener = new OutputOpener(context, options, this.#marks);
    this.#watch = new OutputWatch(context, this.#opener);
    const { keep } = options.rotate;
    this.#rotation = new Rotation(context, this.#marks, this.#opener, { keep, successor: parts.successor });
  }

  /** @throws StageError if the output is locked, foreign or cannot be opened. */
  static async open(options: FileSinkOptions, context: SinkContext, parts: FileSinkParts = {}): Promise<FileSink> {
    const sink = new FileSink(options, context, parts);
    try {
      await sink.#start();
      return sink;
    } catch (error) {
      await sink[Symbol.asyncDispose]();
      if (error instanceof StageError) throw error;
      throw new StageError(
        "TR_STAGE_OPEN",
        context.name,
        `${options.path} cannot be opened: ${toError(error).message}`,
        {
          cause: error,
        },
      );
    }
  }

  async #start(): Promise<void> {
    const { fixed, root } = this.#template;
    this.#folder = await OutputFolder.open(this.#context.fileSystem, root);
    // A link in the place of the one output was put there by whoever wrote the path: it may lead anywhere.
    this.#fixed = fixed === undefined ? undefined : await this.#realPath(fixed);
    const parts = { marks: this.#marks, opener: this.#opener, rotation: this.#rotation };
    await settleRecordedOutputs(this.#context, parts, this.#fixed, this.#successor !== undefined);
    if (this.#successor !== undefined) await this.#handOnRecorded();
    if (this.#fixed !== undefined) this.#put(await this.#opener.open(this.#fixed), "");
  }

  /** What the last run left open is handed on as it is: nobody knows whether a record will ever come to its path again. */
  async #handOnRecorded(): Promise<void> {
    const { fileSystem } = this.#context;
    for (const [path, mark] of [...this.#marks.outputs]) {
      const stat = fileSystem.statSync(path);
      if (stat === undefined || !isSameFile(mark, identityOf(stat, fileSystem))) continue;
      if (mark.length === 0) await this.#removeEmpty(path);
      else {
        await this.#rotation.intend(path, mark);
        await this.#rotation.finish(path);
      }
    }
  }

  /** An output that never got a record is taken away. Dying in between leaves an empty file, which is begun in anew. */
  async #removeEmpty(path: BytePath): Promise<void> {
    await this.#context.fileSystem.unlink(path);
    await this.#marks.save(path, { output: null });
  }

  async #realPath(path: BytePath): Promise<BytePath> {
    try {
      return await this.#context.fileSystem.realpath(path);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      return this.#folder!.place([path.slice(path.lastIndexOf("/") + 1) as BytePath]);
    }
  }

  // ------------------------------------------------------------ write

  async write(batch: Batch, { signal }: { signal: AbortSignal }): Promise<Outcome> {
    if (this.#isGoingBack || this.#isFailed) return retry(GOING_BACK);
    let done!: () => void;
    this.#writing = new Promise((resolve) => {
      done = resolve;
    });
    try {
      const outcome = await this.#write(batch, signal);
      // Its bytes are about to be cut off again: whatever was promised here would be in doubt.
      return this.#isGoingBack ? retry(GOING_BACK) : outcome;
    } catch (error) {
      return this.#outcomeOf(error);
    } finally {
      this.#writing = undefined;
      done();
      // Outputs that this write kept from their rotation although nothing of it is in them.
      this.#rotateIdle();
    }
  }

  async #write(batch: Batch, signal: AbortSignal): Promise<Outcome> {
    const parts = this.#routing.split(batch);
    if (parts.length > this.#options.max_open_outputs && !this.#isRewriting) {
      // Bisected until each part fits; a record alone always does.
      return rejected(
        `the batch goes to ${parts.length} outputs, max_open_outputs is ${this.#options.max_open_outputs}`,
      );
    }
    const appends: Append[] = [];
    for (const part of parts.map((plain) => this.#packed(plain))) {
      const output = await this.#ready(part, signal, appends);
      if ("kind" in output) return output;
      // Two names may be one file, by a link within the folder: what goes there goes in one piece.
      const append = appends.find((other) => other.output === output);
      if (append === undefined) appends.push({ output, buffers: [...part.buffers], byteLength: part.byteLength });
      else {
        append.buffers.push(...part.buffers);
        append.byteLength += part.byteLength;
      }
    }
    if (this.#isGoingBack) return retry(GOING_BACK);
    const results = await Promise.allSettled(
      appends.map(({ output, buffers, byteLength }) => output.append(buffers, byteLength)),
    );
    const failure = results.find((result) => result.status === "rejected");
    if (failure !== undefined) {
      await Promise.all(appends.map(({ output }) => output.cutTo(output.length)));
      throw failure.reason;
    }
    const now = this.#context.clock.now();
    for (const { output, byteLength } of appends) output.accept(byteLength, now);
    return delivered();
  }

  #packed(part: Part): Part {
    if (this.#pack === undefined) return part;
    const packed = this.#pack(part.buffers);
    return { ...part, buffers: [packed], byteLength: packed.length };
  }

  /** The part's output: open, mended, not held back and with room for it; or why the batch has to wait. */
  async #ready(
    { names, byteLength }: Part,
    signal: AbortSignal,
    appends: readonly Append[],
  ): Promise<Output | Outcome> {
    for (;;) {
      if (this.#isGoingBack || this.#isFailed) return retry(GOING_BACK);
      const output = await this.#find(names, appends);
      if ("kind" in output || appends.some((append) => append.output === output)) return output;
      if (output.hold !== undefined) {
        if (!(await released(output.hold, signal))) return retry("the sink is stopping");
        continue;
      }
      if (output.intent !== undefined) {
        await this.#finishRotation(output);
        continue;
      }
      if (!output.isReady) await output.mend(() => this.#opener.reopen(output));
      this.#watch.look(output);
      if (output.rotation === "replaced" && output.isClean) {
        await this.#replace(output);
        continue;
      }
      if (this.#hasRoom(output, byteLength)) return output;
      output.rotation = "size";
      if (!output.isClean)
        return retry(`${pathToText(output.path)} is full and waits for its rotation`, { needsBarrier: true });
      await this.#rotate(output);
    }
  }

  #hasRoom(output: Output, byteLength: number): boolean {
    const max = this.#options.rotate.max_bytes;
    const mayGrow = max === 0 || this.#isRewriting || !this.#mayRotate(output);
    return mayGrow || output.length === 0 || output.length + byteLength <= max;
  }

  async #find(names: readonly BytePath[], appends: readonly Append[]): Promise<Output | Outcome> {
    const key = names.join("/");
    const path = this.#fixed ?? this.#open.pathOf(key) ?? (await this.#folder!.place(names));
    const open = this.#open.use(path, key);
    if (open !== undefined) return open;
    const isNeeded = (output: Output) => appends.some((append) => append.output === output);
    if (!this.#isRewriting && !(await this.#open.makeRoom(isNeeded, (idle) => this.#closeIdle(idle)))) {
      return retry("all open outputs wait for a barrier", { needsBarrier: true });
    }
    await this.#marks.forget(this.#marks.tooMany((other) => this.#open.has(other)));
    return this.#put(await this.#opener.open(path), key);
  }

  async #closeIdle(output: Output): Promise<void> {
    if (this.#successor !== undefined && output.length > 0) return this.#rotate(output);
    await output.finish();
    this.#open.drop(output);
    await output.close();
    if (this.#successor !== undefined) await this.#removeEmpty(output.path);
  }

  #put(output: Output, key: string): Output {
    this.#open.put(output, key);
    this.#watchAge(output);
    return output;
  }

  #outcomeOf(error: unknown): Outcome {
    if (error instanceof StageError) {
      this.#isFailed = true;
      throw error;
    }
    const message = this.#reasonOf(toError(error));
    // A record's own values may name what can never be an output. The one output of a fixed path somebody can mend.
    const isImpossible = error instanceof RefusedPath || IMPOSSIBLE_PATHS.has(errnoOf(error) ?? "");
    if (isImpossible && this.#template.fixed === undefined) return rejected(message);
    return retry(message, { afterMs: TROUBLE_MS });
  }

  /** A call on a descriptor that failed does not say of which file. */
  #reasonOf(error: Error): string {
    const isNameless = errnoOf(error) !== undefined && !("path" in error);
    return isNameless ? `${this.#options.path}: ${error.message}` : error.message;
  }

  // ------------------------------------------------------------ the barrier

  prepare(): Promise<Marks> {
    // At this one instant lengths and sets describe the same records; nothing here may await.
    const noted: Noted[] = [];
    const held: Output[] = [];
    for (const output of this.#open) {
      if (this.#isFull(output)) output.rotation ??= "size";
      if (output.rotation !== undefined && output.hold === undefined) {
        output.hold = new Hold();
        held.push(output);
      }
      if (output.length === output.committedLength) continue;
      output.notedLength = output.length;
      output.beginLook();
      noted.push({ output, mark: output.mark(output.length) });
    }
    this.#noted = noted;
    this.#held = held;
    this.#isRewriting = false;
    return this.#makeDurable(noted);
  }

  async #makeDurable(noted: Noted[]): Promise<Marks> {
    const results = await Promise.allSettled(noted.map((entry) => this.#sync(entry)));
    const reasons = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
    const fatal = reasons.find((reason) => reason instanceof StageError);
    if (fatal !== undefined) {
      // Going back would cut what somebody else has written.
      this.#isFailed = true;
      this.#releaseHeld();
      throw fatal;
    }
    if (reasons.length > 0) {
      await this.#goBack();
      throw reasons[0];
    }
    return Object.fromEntries(noted.map(({ output, mark }) => [outputMarkName(output.path), toJson(mark)]));
  }

  async #sync(entry: Noted): Promise<void> {
    const { output, mark } = entry;
    const length = await this.#watch.sync(output, mark.length, () => this.#writing === undefined);
    output.notedLength = length;
    entry.mark = { ...mark, length };
  }

  /** Back to the committed marks: what was written since is written again by the pipeline. */
  async #goBack(): Promise<void> {
    this.#isGoingBack = true;
    this.#releaseHeld();
    await this.#writing;
    // A write that ended just before must be heard of before this barrier's failure is, or it would count as new.
    await this.#context.clock.sleep(1);
    for (const output of [...this.#open]) {
      if (output.isClean && output.isReady) continue;
      output.notedLength = undefined;
      if (output.isLost) {
        // It is reported, and begun anew, by the next write.
        this.#open.drop(output);
        await output.close();
        continue;
      }
      output.isInDoubt = true;
      // Where somebody cut more than that, there is nothing to go back to.
      await output.cutTo(Math.min(output.committedLength, output.length));
      // If this fails too, it is tried again before the next append, and nothing is appended until it succeeds.
      await output.mend(() => this.#opener.reopen(output)).catch(() => {});
    }
    this.#isRewriting = true;
    this.#context.clock.after(0, () => {
      this.#isGoingBack = false;
    });
  }

  async committed(): Promise<void> {
    for (const { output, mark } of this.#noted) {
      output.committedLength = mark.length;
      output.notedLength = undefined;
      this.#marks.committed(output.path, mark);
    }
    this.#noted = [];
    await Promise.all(this.#held.map((output) => this.#rotateHeld(output)));
    this.#held = [];
  }

  // ------------------------------------------------------------ rotation

  rotate(): void {
    for (const output of this.#open) if (output.length > 0) output.rotation ??= "signal";
    this.#rotateIdle();
  }

  /** Rotates what was not written for so long, milliseconds of the wall clock. */
  rotateUnwritten(idleMs: number): void {
    const nowMs = this.#context.clock.now();
    for (const output of this.#open) {
      if (output.length > 0 && nowMs - output.writtenAtMs >= idleMs) output.rotation ??= "age";
    }
    this.#rotateIdle();
  }

  /** Rotates at once what wants it and has nothing uncommitted: no barrier will come for it. */
  #rotateIdle(): void {
    if (this.#writing !== undefined || this.#isGoingBack) return;
    for (const output of this.#open) {
      const { rotation } = output;
      if (rotation === undefined || rotation === "replaced" || output.hold !== undefined || !output.isClean) continue;
      if (!output.isReady) continue;
      output.hold = new Hold();
      void this.#rotateHeld(output);
    }
  }

  async #rotateHeld(output: Output): Promise<void> {
    const rotating = this.#rotateIfClean(output);
    this.#rotating.add(rotating);
    await rotating;
    this.#rotating.delete(rotating);
  }

  async #rotateIfClean(output: Output): Promise<void> {
    try {
      if (!output.isClean || !output.isReady || this.#isGoingBack) return;
      if (output.rotation === "replaced") await this.#replace(output);
      else if (output.length > 0) await this.#rotate(output);
      else output.rotation = undefined;
    } catch (error) {
      // The next append, or barrier, carries on from where this stands.
      if (!output.isTroubleTold) {
        const facts = { path: pathToText(output.path), error: toError(error).message };
        this.#context.log.warn(facts, "the output could not be rotated yet");
      }
      output.isTroubleTold = true;
    } finally {
      this.#release(output);
    }
  }

  #releaseHeld(): void {
    for (const output of this.#held) this.#release(output);
    this.#held = [];
    this.#noted = [];
  }

  #release(output: Output): void {
    output.hold?.release();
    output.hold = undefined;
  }

  #isFull(output: Output): boolean {
    const max = this.#options.rotate.max_bytes;
    return max > 0 && output.length >= max && this.#mayRotate(output);
  }

  #mayRotate(output: Output): boolean {
    return this.#context.clock.monotonic() >= output.rotateNotBeforeMs;
  }

  async #rotate(output: Output): Promise<void> {
    // An earlier try may have renamed it by now: another intent would name a file that is not there.
    if (output.intent === undefined) {
      await output.finish();
      output.intent = await this.#rotation.intend(output.path, output.identity);
    }
    await this.#finishRotation(output);
  }

  /** Resolves with a new output in the place of this one, or with this one as it was if it cannot be renamed. */
  async #finishRotation(output: Output): Promise<void> {
    try {
      const fresh = await this.#rotation.finish(output.path);
      if (fresh !== undefined) await this.#exchange(output, fresh);
      else {
        this.#open.drop(output);
        await output.close();
      }
    } catch (error) {
      if (!(error instanceof RotationRefused)) throw error;
      output.intent = undefined;
      output.rotation = undefined;
      const { clock } = this.#context;
      output.rotateNotBeforeMs = clock.monotonic() + REFUSED_MS;
      output.ageTimer?.cancel();
      output.ageTimer = clock.after(REFUSED_MS, () => this.#watchAge(output));
      this.#context.log.warn(
        { path: pathToText(output.path) },
        `${error.message}; it is appended to, and tried again later`,
      );
    }
  }

  /** Somebody else renamed or deleted it: the old one is finished, a new one begun. */
  async #replace(output: Output): Promise<void> {
    await output.finish();
    const { links } = await output.stat();
    this.#opener.reportGone(output.path, links > 0);
    await this.#exchange(output, await this.#opener.begin(output.path));
  }

  async #exchange(old: Output, fresh: Output): Promise<void> {
    this.#open.exchange(fresh);
    this.#watchAge(fresh);
    await old.close();
  }

  #watchAge(output: Output): void {
    const max = this.#options.rotate.max_age_ms;
    if (max === 0) return;
    const { clock } = this.#context;
    const restMs = output.createdAtMs + max - clock.now();
    output.ageTimer = clock.after(Math.max(0, restMs), () => {
      // An empty one has nothing to close, and a long wait may end early.
      if (output.length === 0) output.ageTimer = clock.after(max, () => this.#watchAge(output));
      else if (output.createdAtMs + max > clock.now()) this.#watchAge(output);
      else {
        output.rotation ??= "age";
        this.#rotateIdle();
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The barrier that held these may never be committed.
    for (const output of this.#held) this.#release(output);
    await Promise.all(this.#rotating);
    for (const output of [...this.#open]) {
      if (!this.#isFailed) await this.#leave(output);
      await output.close();
    }
    this.#open.clear();
    this.#routing.tell();
  }

  /** Takes back what no barrier has described: it will come again, whatever the next start thinks of this stop. */
  async #leave(output: Output): Promise<void> {
    try {
      if (!output.isReady) await output.mend(() => this.#opener.reopen(output));
      if (output.notedLength === undefined && output.length > output.committedLength) {
        const { size } = await output.stat();
        if (size === output.length) await output.cutTo(output.committedLength);
      }
      await output.finish();
      if (this.#successor === undefined) return;
      if (output.intent !== undefined || output.committedLength > 0) await this.#rotate(output);
      else await this.#removeEmpty(output.path);
    } catch {
      // The next start sees to it.
    }
  }
}

/** What another sink changes of this one. */
export interface FileSinkParts {
  /** Where records go, instead of `path`. */
  readonly names?: OutputNames;
  /** Makes of what a batch brings to one output what is written there. */
  readonly pack?: (buffers: readonly Buffer[]) => Buffer;
  /** Takes over every output that is closed; all are, also at a clean stop. */
  readonly successor?: Successor;
}

interface Append {
  readonly output: Output;
  readonly buffers: Buffer[];
  byteLength: number;
}

interface Noted {
  readonly output: Output;
  mark: ReturnType<Output["mark"]>;
}

const GOING_BACK = "what was written since the last commit is taken back and written again";

/** A disk in trouble is not asked more often than that. */
const TROUBLE_MS = 100;

/** A file that could not be renamed is not tried again for so long. */
const REFUSED_MS = 60_000;

/** What a name that is too long gives, one that is a folder, or one below a file. */
const IMPOSSIBLE_PATHS = new Set(["ENAMETOOLONG", "ENOTDIR", "EISDIR", "ELOOP"]);

/** True once the hold is released; false if `signal` aborts first. */
function released(hold: Hold, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(false);
    const abort = () => resolve(false);
    signal.addEventListener("abort", abort, { once: true });
    void hold.released.then(() => {
      signal.removeEventListener("abort", abort);
      resolve(true);
    });
  });
}
