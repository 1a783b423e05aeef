import { z } from "zod";
import type { Receiver, Sender } from "../channel/index.ts";
import { LineFramer } from "../codec/line-framer.ts";
import { ChannelClosedError, StageError, toError } from "../errors.ts";
import { Batch } from "../record/batch.ts";
import type { Lines } from "../record/lines.ts";
import { type Origin, streamOrigin } from "../record/origin.ts";
import { unlessAborted } from "../runtime/unless-aborted.ts";
import type { Source, SourceContext, SourceStatus } from "../stage/contract.ts";
import { defineSource } from "../stage/define.ts";
import { encodeDelimiter, encodingLabel, encodingName, lineDelimiter, maxLineBytes } from "../stage/text-options.ts";

const options = z.strictObject({
  max_line_bytes: maxLineBytes(),
  line_delimiter: lineDelimiter(),
  encoding: encodingLabel(),
});

/** Lines from standard input; it ends when the input does. What was read and not delivered cannot be read again. */
export const stdinSource = defineSource({
  type: "stdin",
  summary: "Reads lines from standard input until it ends; what was read cannot be read again.",
  replay: "fleeting",
  options,
  async open(chosen, context) {
    return new StdinSource(chosen, context, process.stdin);
  },
});

/** @internal The source over any stream of bytes, so that tests need not own the process. */
export class StdinSource implements Source {
  readonly output: Receiver<Batch>;
  readonly #sender: Sender<Batch>;
  readonly #context: SourceContext;
  readonly #input: AsyncIterable<Buffer | string>;
  readonly #framer: LineFramer;
  readonly #origin: Origin;
  #unfinished: Buffer = Buffer.alloc(0);

  constructor(chosen: z.infer<typeof options>, context: SourceContext, input: AsyncIterable<Buffer | string>) {
    const encoding = encodingName(chosen.encoding);
    this.#context = context;
    this.#input = input;
    // Each run is a stream of its own: offsets start again at 0, and record ids must not.
    this.#origin = streamOrigin("fleeting", context.name, `stdin:${context.random.hex(16)}`);
    this.#framer = new LineFramer({
      delimiter: encodeDelimiter(chosen.line_delimiter, encoding),
      maxLineBytes: chosen.max_line_bytes,
      encoding,
      host: context.host,
      boundaries: [],
      start: 0,
    });
    const { sender, receiver } = context.channel();
    this.#sender = sender;
    this.output = receiver;
  }

  async run({ signal }: { signal: AbortSignal; once: boolean }): Promise<void> {
    const iterator = this.#input[Symbol.asyncIterator]();
    try {
      for (;;) {
        // A step that comes after the end is nobody's.
        const step = await unlessAborted(iterator.next(), signal);
        if (step === undefined) break;
        if (step.done === true) {
          await this.#take(Buffer.alloc(0), true, signal);
          break;
        }
        await this.#take(typeof step.value === "string" ? Buffer.from(step.value) : step.value, false, signal);
      }
    } catch (error) {
      if (signal.aborted || error instanceof ChannelClosedError) return;
      throw new StageError(
        "TR_STAGE_FAILED",
        this.#context.name,
        `cannot read standard input: ${toError(error).message}`,
        {
          cause: error,
        },
      );
    } finally {
      this.#sender.close();
      // A read that is under way on a terminal does not end by itself: it is not waited for.
      void iterator.return?.(undefined)?.catch(() => undefined);
    }
  }

  status(): SourceStatus {
    return { files: 0, lagBytes: 0, cutLines: this.#framer.cutLines };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#sender.close();
  }

  async #take(bytes: Buffer, isEnd: boolean, signal: AbortSignal): Promise<void> {
    const { budget, clock } = this.#context;
    const total = this.#unfinished.length + bytes.length;
    const lease = await budget.lease(total, { signal });
    if (lease === undefined) return;
    this.#unfinished.copy(lease.buffer, 0);
    bytes.copy(lease.buffer, this.#unfinished.length);
    const start = this.#framer.offset;
    const readAtMs = clock.now();
    const pieces: Lines[] = this.#framer.frame(lease.buffer, 0, total, readAtMs);
    const framed = this.#framer.offset - start;
    if (isEnd) {
      const rest = this.#framer.cutPartial(lease.buffer, framed, total, readAtMs, "partial_end");
      if (rest !== undefined) pieces.push(rest);
    }
    this.#unfinished = Buffer.from(lease.buffer.subarray(framed, total));
    for (let extra = 1; extra < pieces.length; extra += 1) lease.retain();
    if (pieces.length === 0) lease.release();
    for (const [index, piece] of pieces.entries()) {
      try {
        await this.#sender.send(Batch.ofLines(this.#origin, piece, lease), { signal });
      } catch (error) {
        for (let left = index; left < pieces.length; left += 1) lease.release();
        throw error;
      }
    }
  }
}
