import type { Command } from "commander";
import type { CliIo } from "./io.ts";

/**
 * Makes a commander action of a handler that returns its exit code (nothing: 0). The handler gets the command's
 * arguments as strings and its options as one object; what it throws is reported by `main`.
 *
 * @example
 * command.action(action(io, async ([key], options: ExplainOptions) => 0));
 */
export function action<Options>(
  io: CliIo,
  handler: (
    args: readonly (string | undefined)[],
    options: Options,
  ) => number | undefined | Promise<number | undefined>,
): (...given: unknown[]) => Promise<void> {
  return async (...given) => {
    // commander hands over each argument, then the options, then the command itself.
    const command = given.at(-1) as Command;
    const args = given.slice(0, -2).flat() as (string | undefined)[];
    io.exitCode = (await handler(args, command.opts() as Options)) ?? 0;
  };
}
