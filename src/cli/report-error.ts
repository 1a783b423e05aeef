import { ConfigError, describeMistake, errnoOf, TailraceError, toError } from "../errors.ts";
import { maskUrls } from "../telemetry/redact.ts";
import { type CliIo, coloursFor } from "./io.ts";

/**
 * Tells a person what went wrong, on standard error, and returns the exit code: 2 for wrong usage or configuration (one
 * line for each mistake), 1 for everything else. A stack trace only with TAILRACE_DEBUG=1.
 */
export function reportError(thrown: unknown, io: CliIo): number {
  const paint = coloursFor(io.stderr, io.env);
  const tell = (text: string) => io.stderr.write(`${paint.red("error:")} ${maskUrls(text)}\n`);
  const isDebug = Boolean(io.env["TAILRACE_DEBUG"]);
  const error = toError(thrown);
  if (error instanceof ConfigError) {
    for (const mistake of error.mistakes) tell(oneLine(describeMistake(mistake)));
    if (isDebug) tell(stackOf(error));
    return 2;
  }
  if (isDebug) tell(stackOf(error));
  else if (error instanceof TailraceError && error.code !== "TR_INTERNAL") tell(oneLine(error.message));
  else if (HALF_LOADED.has(errnoOf(error) ?? ""))
    tell(
      `a part of the program cannot be loaded (${oneLine(error.message)}); too few files may be open at once (see \`ulimit -n\`, 256 will do), or the installation is not whole (\`npm ci\`)`,
    );
  else tell(`${oneLine(error.message || error.name)} (unexpected; TAILRACE_DEBUG=1 shows where)`);
  return 1;
}

/** Node opens the files of a library side by side; where it may not, it says of some that it cannot find them. */
const HALF_LOADED: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ERR_MODULE_NOT_FOUND"]);

const oneLine = (text: string): string => text.replace(/\s*\n\s*/g, " ");

function stackOf(error: Error): string {
  const cause = error.cause === undefined ? "" : `\ncaused by ${stackOf(toError(error.cause))}`;
  return `${error.stack ?? error.message}${cause}`;
}
