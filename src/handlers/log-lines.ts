import type { Readable } from "node:stream";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/log.ts";
import { LineCutter } from "./answer-lines.ts";

/** Longest line of standard error that is logged; the rest of it is left out. */
const MAX_LOG_BYTES = 8192;
/** Lines of standard error that one worker may have logged in a second; the rest is counted. */
const MAX_LOG_LINES = 100;

/** Standard error is always read, so that a worker never waits for it; a flood of lines is counted. */
export function logLines(stream: Readable, log: Logger, clock: Clock): void {
  let secondAtMs = Number.NEGATIVE_INFINITY;
  let lines = 0;
  let leftOut = 0;
  const tell = (line: string) => {
    const nowMs = clock.monotonic();
    if (nowMs - secondAtMs >= 1000) {
      if (leftOut > 0) log.warn({ left_out: leftOut }, `a worker wrote ${leftOut} more lines to standard error`);
      secondAtMs = nowMs;
      lines = 0;
      leftOut = 0;
    }
    lines += 1;
    if (lines <= MAX_LOG_LINES) log.info({}, line);
    else leftOut += 1;
    return true;
  };
  const cutter = new LineCutter(
    MAX_LOG_BYTES,
    (line) => line === "" || tell(line),
    () => tell(`(a line of more than ${MAX_LOG_BYTES} bytes was left out)`),
  );
  stream.on("data", (chunk: Buffer) => cutter.push(chunk));
  stream.once("end", () => {
    if (leftOut > 0) log.warn({ left_out: leftOut }, `a worker wrote ${leftOut} more lines to standard error`);
  });
}
