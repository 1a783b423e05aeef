import type { Writable } from "node:stream";
import { z } from "zod";
import { type Encoding, encodeBatch } from "../codec/encode.ts";
import { errnoOf, StageError, toError } from "../errors.ts";
import type { Batch } from "../record/index.ts";
import { defineSink, delivered, encoding, type Outcome, retry, type Sink, type StageContext } from "../stage/index.ts";

/**
 * Writes to standard output, as fast as its reader reads. A batch counts once the operating system has its bytes: what is
 * behind a pipe then is out of our sight, so a crash may repeat or lose what was in the pipe.
 */
export const consoleSink = defineSink({
  type: "console",
  summary: "Writes records to standard output.",
  options: z.strictObject({ encoding: encoding() }),
  guarantee: "at_least_once",
  target: () => "standard output",
  open: async (options, context) => openConsole(options, context, process.stdout),
});

/** The sink over any stream; the stream stays open. */
export function openConsole(
  options: { readonly encoding: Encoding },
  { name, log }: Pick<StageContext, "name" | "log">,
  stream: Writable,
): Sink {
  const tally = { replacedRecords: 0 };
  let isTold = false;
  // Each write hears of its own failure. Without a listener the same failure would end the process; it stays for good,
  // as a reader may go away after the last write, too.
  stream.on("error", () => {});
  return {
    async write(batch: Batch): Promise<Outcome> {
      const parts = encodeBatch(batch, options.encoding, tally);
      if (tally.replacedRecords > 0 && !isTold) {
        isTold = true;
        log.warn({}, 'records hold bytes that are no valid text; these are replaced (encoding = "raw" keeps them)');
      }
      if (parts.length === 0) return delivered();
      try {
        await written(stream, parts.length === 1 ? parts[0]! : Buffer.concat(parts));
        return delivered();
      } catch (error) {
        if (!GONE.has(errnoOf(error) ?? "")) return retry(toError(error).message);
        // `| head` has seen enough. Nobody is there to retry for.
        throw new StageError("TR_STAGE_FAILED", name, "nobody reads standard output any more", { cause: error });
      }
    },
    async [Symbol.asyncDispose]() {},
  };
}

const GONE = new Set(["EPIPE", "ECONNRESET", "ERR_STREAM_DESTROYED", "ERR_STREAM_WRITE_AFTER_END"]);

/** Resolves when the bytes have left for the operating system: that is the backpressure, and until then they are in use. */
function written(stream: Writable, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}
