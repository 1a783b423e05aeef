import { errnoOf, StageError, toError } from "../errors.ts";
import type { Batch } from "../record/index.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import { delivered, type Marks, type Outcome, rejected, retry, type Sink, type SinkContext } from "../stage/index.ts";
import { BatchAppends } from "./batch-appends.ts";
import { OpenOutputs } from "./open-outputs.ts";
import type { FileSinkOptions } from "./options.ts";
import type { Hold, Output } from "./output.ts";
import { OutputFolder, RefusedPath } from "./output-folder.ts";
import { identityOf, isSameFile, outputMarkName, toJson } from "./output-mark.ts";
import { OutputMarks } from "./output-marks.ts";
import { OutputOpener } from "./output-opener.ts";
import { OutputWatch } from "./output-watch.ts";
import { type OutputNames, type Part, RecordRouting } from "./record-routing.ts";
import { Rotation, type Successor } from "./rotation.ts";
import { RotationSchedule } from "./rotation-schedule.ts";
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
  readonly #schedule: RotationSchedule;
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
    const rotating = { open: this.#open, opener: this.#opener, rotation: this.#rotation };
    this.#schedule = new RotationSchedule(context, options.rotate, rotating, {
      isWriting: () => this.#writing !== undefined,
      isGoingBack: () => this.#isGoingBack,
    });
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
      this.#schedule.rotateIdle();
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
    const appends = new BatchAppends();
    for (const part of parts.map((plain) => this.#packed(plain))) {
      const output = await this.#ready(part, signal, appends);
      if ("kind" in output) return output;
      appends.add(output, part);
    }
    if (this.#isGoingBack) return retry(GOING_BACK);
    await appends.write(() => this.#context.clock.now());
    return delivered();
  }

  #packed(part: Part): Part {
    if (this.#pack === undefined) return part;
    const packed = this.#pack(part.buffers);
    return { ...part, buffers: [packed], byteLength: packed.length };
  }

  /** The part's output: open, mended, not held back and with room for it; or why the batch has to wait. */
  async #ready({ names, byteLength }: Part, signal: AbortSignal, appends: BatchAppends): Promise<Output | Outcome> {
    for (;;) {
      if (this.#isGoingBack || this.#isFailed) return retry(GOING_BACK);
      const output = await this.#find(names, appends);
      if ("kind" in output || appends.has(output)) return output;
      if (output.hold !== undefined) {
        if (!(await released(output.hold, signal))) return retry("the sink is stopping");
        continue;
      }
      if (output.intent !== undefined) {
        await this.#schedule.finish(output);
        continue;
      }
      if (!output.isReady) await output.mend(() => this.#opener.reopen(output));
      this.#watch.look(output);
      if (output.rotation === "replaced" && output.isClean) {
        await this.#schedule.replace(output);
        continue;
      }
      if (this.#isRewriting || this.#schedule.hasRoom(output, byteLength)) return output;
      output.rotation = "size";
      if (!output.isClean)
        return retry(`${pathToText(output.path)} is full and waits for its rotation`, { needsBarrier: true });
      await this.#schedule.rotate(output);
    }
  }

  async #find(names: readonly BytePath[], appends: BatchAppends): Promise<Output | Outcome> {
    const key = names.join("/");
    const path = this.#fixed ?? this.#open.pathOf(key) ?? (await this.#folder!.place(names));
    const open = this.#open.use(path, key);
    if (open !== undefined) return open;
    const makeRoom = () =>
      this.#open.makeRoom(
        (output) => appends.has(output),
        (idle) => this.#closeIdle(idle),
      );
    if (!this.#isRewriting && !(await makeRoom())) {
      return retry("all open outputs wait for a barrier", { needsBarrier: true });
    }
    await this.#marks.forget(this.#marks.tooMany((other) => this.#open.has(other)));
    return this.#put(await this.#opener.open(path), key);
  }

  async #closeIdle(output: Output): Promise<void> {
    if (this.#successor !== undefined && output.length > 0) return this.#schedule.rotate(output);
    await output.finish();
    this.#open.drop(output);
    await output.close();
    if (this.#successor !== undefined) await this.#removeEmpty(output.path);
  }

  #put(output: Output, key: string): Output {
    this.#open.put(output, key);
    this.#schedule.watchAge(output);
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
    for (const output of this.#open) {
      this.#schedule.hold(output);
      if (output.length === output.committedLength) continue;
      output.notedLength = output.length;
      output.beginLook();
      noted.push({ output, mark: output.mark(output.length) });
    }
    this.#noted = noted;
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
      this.#forgetBarrier();
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
    this.#forgetBarrier();
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

  #forgetBarrier(): void {
    this.#schedule.releaseHeld();
    this.#noted = [];
  }

  async committed(): Promise<void> {
    for (const { output, mark } of this.#noted) {
      output.committedLength = mark.length;
      output.notedLength = undefined;
      this.#marks.committed(output.path, mark);
    }
    this.#noted = [];
    await this.#schedule.rotateHeld();
  }

  rotate(): void {
    this.#schedule.wantAll();
  }

  /** Rotates what was not written for so long, milliseconds of the wall clock. */
  rotateUnwritten(idleMs: number): void {
    this.#schedule.wantUnwritten(idleMs);
  }

  // ------------------------------------------------------------ the end

  async [Symbol.asyncDispose](): Promise<void> {
    // The barrier that held these may never be committed.
    this.#schedule.releaseHeld();
    await this.#schedule.settled();
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
      if (output.intent !== undefined || output.committedLength > 0) await this.#schedule.rotate(output);
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

interface Noted {
  readonly output: Output;
  mark: ReturnType<Output["mark"]>;
}

const GOING_BACK = "what was written since the last commit is taken back and written again";

/** A disk in trouble is not asked more often than that. */
const TROUBLE_MS = 100;

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
