import { toError } from "../errors.ts";
import { pathToText } from "../runtime/byte-path.ts";
import type { SinkContext } from "../stage/index.ts";
import type { OpenOutputs } from "./open-outputs.ts";
import type { FileSinkOptions } from "./options.ts";
import { Hold, type Output } from "./output.ts";
import type { OutputOpener } from "./output-opener.ts";
import { type Rotation, RotationRefused } from "./rotation.ts";

/** What the sink does meanwhile. */
export interface SinkActivity {
  /** A write is under way. */
  isWriting(): boolean;
  /** What was written since the last commit is taken back. */
  isGoingBack(): boolean;
}

/**
 * When open outputs are rotated. An output says why (`Output.rotation`); it is done as soon as nothing in it waits for a
 * commit, with appends to it held back:
 *
 *     size, age, signal, replaced --> a barrier: held --> committed: rotated, released
 *                                '--> all committed already, and no write under way: at once
 *                                '--> the next append finds it: rotates first, or asks for a barrier
 */
export class RotationSchedule {
  readonly #context: SinkContext;
  readonly #limits: FileSinkOptions["rotate"];
  readonly #open: OpenOutputs;
  readonly #opener: OutputOpener;
  readonly #rotation: Rotation;
  readonly #sink: SinkActivity;
  /** Outputs that the barrier under way holds back for their rotation. */
  #held: Output[] = [];
  /** Rotations under way that nobody waits for but the end. */
  readonly #rotating = new Set<Promise<void>>();

  constructor(
    context: SinkContext,
    limits: FileSinkOptions["rotate"],
    parts: { readonly open: OpenOutputs; readonly opener: OutputOpener; readonly rotation: Rotation },
    sink: SinkActivity,
  ) {
    this.#context = context;
    this.#limits = limits;
    this.#open = parts.open;
    this.#opener = parts.opener;
    this.#rotation = parts.rotation;
    this.#sink = sink;
  }

  // ------------------------------------------------------------ why

  /** All that hold anything, since somebody asks for it. */
  wantAll(): void {
    for (const output of this.#open) if (output.length > 0) output.rotation ??= "signal";
    this.rotateIdle();
  }

  /** What was not written for so long, milliseconds of the wall clock. */
  wantUnwritten(idleMs: number): void {
    const nowMs = this.#context.clock.now();
    for (const output of this.#open) {
      if (output.length > 0 && nowMs - output.writtenAtMs >= idleMs) output.rotation ??= "age";
    }
    this.rotateIdle();
  }

  /** False: it must be rotated before so many more bytes. */
  hasRoom(output: Output, byteLength: number): boolean {
    const max = this.#limits.max_bytes;
    const mayGrow = max === 0 || !this.#mayRotate(output);
    return mayGrow || output.length === 0 || output.length + byteLength <= max;
  }

  #isFull(output: Output): boolean {
    const max = this.#limits.max_bytes;
    return max > 0 && output.length >= max && this.#mayRotate(output);
  }

  #mayRotate(output: Output): boolean {
    return this.#context.clock.monotonic() >= output.rotateNotBeforeMs;
  }

  /** To be called once for each output that was opened. */
  watchAge(output: Output): void {
    const max = this.#limits.max_age_ms;
    if (max === 0) return;
    const { clock } = this.#context;
    const restMs = output.createdAtMs + max - clock.now();
    output.ageTimer = clock.after(Math.max(0, restMs), () => {
      // An empty one has nothing to close, and a long wait may end early.
      if (output.length === 0) output.ageTimer = clock.after(max, () => this.watchAge(output));
      else if (output.createdAtMs + max > clock.now()) this.watchAge(output);
      else {
        output.rotation ??= "age";
        this.rotateIdle();
      }
    });
  }

  // ------------------------------------------------------------ when

  /** Rotates at once what wants it and has nothing uncommitted: no barrier will come for it. */
  rotateIdle(): void {
    if (this.#sink.isWriting() || this.#sink.isGoingBack()) return;
    for (const output of this.#open) {
      const { rotation } = output;
      if (rotation === undefined || rotation === "replaced" || output.hold !== undefined || !output.isClean) continue;
      if (!output.isReady) continue;
      output.hold = new Hold();
      void this.#rotateHeld(output);
    }
  }

  /** As a barrier begins: holds the output back if it is to be rotated. */
  hold(output: Output): void {
    if (this.#isFull(output)) output.rotation ??= "size";
    if (output.rotation === undefined || output.hold !== undefined) return;
    output.hold = new Hold();
    this.#held.push(output);
  }

  /** The barrier is committed. */
  async rotateHeld(): Promise<void> {
    await Promise.all(this.#held.map((output) => this.#rotateHeld(output)));
    this.#held = [];
  }

  /** The barrier failed, or may never be committed. */
  releaseHeld(): void {
    for (const output of this.#held) this.#release(output);
    this.#held = [];
  }

  /** Resolves when no rotation is under way. */
  async settled(): Promise<void> {
    await Promise.all(this.#rotating);
  }

  async #rotateHeld(output: Output): Promise<void> {
    const rotating = this.#rotateIfClean(output);
    this.#rotating.add(rotating);
    await rotating;
    this.#rotating.delete(rotating);
  }

  async #rotateIfClean(output: Output): Promise<void> {
    try {
      if (!output.isClean || !output.isReady || this.#sink.isGoingBack()) return;
      if (output.rotation === "replaced") await this.replace(output);
      else if (output.length > 0) await this.rotate(output);
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

  #release(output: Output): void {
    output.hold?.release();
    output.hold = undefined;
  }

  // ------------------------------------------------------------ how

  /** Rotates now; nothing in it may wait for a commit, and nobody may write to it. */
  async rotate(output: Output): Promise<void> {
    // An earlier try may have renamed it by now: another intent would name a file that is not there.
    if (output.intent === undefined) {
      await output.finish();
      output.intent = await this.#rotation.intend(output.path, output.identity);
    }
    await this.finish(output);
  }

  /** Resolves with a new output in the place of this one, or with this one as it was if it cannot be renamed. */
  async finish(output: Output): Promise<void> {
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
      output.ageTimer = clock.after(REFUSED_MS, () => this.watchAge(output));
      this.#context.log.warn(
        { path: pathToText(output.path) },
        `${error.message}; it is appended to, and tried again later`,
      );
    }
  }

  /** Somebody else renamed or deleted it: the old one is finished, a new one begun. */
  async replace(output: Output): Promise<void> {
    await output.finish();
    const { links } = await output.stat();
    this.#opener.reportGone(output.path, links > 0);
    await this.#exchange(output, await this.#opener.begin(output.path));
  }

  async #exchange(old: Output, fresh: Output): Promise<void> {
    this.#open.exchange(fresh);
    this.watchAge(fresh);
    await old.close();
  }
}

/** A file that could not be renamed is not tried again for so long. */
const REFUSED_MS = 60_000;
