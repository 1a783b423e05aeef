import { Argument, type Command } from "commander";
import { action } from "./action.ts";
import { completionScript, SHELLS, type Shell } from "./completion-scripts.ts";
import { completionTree } from "./completion-tree.ts";
import type { CliIo } from "./io.ts";

const EXAMPLES = `
Examples:
  source <(tailrace completion bash)
  tailrace completion zsh > ~/.zfunc/_tailrace
  tailrace completion fish > ~/.config/fish/completions/tailrace.fish`;

/** `tailrace completion bash|zsh|fish`: a script that completes commands, options and their values. */
export function register(program: Command, io: CliIo): void {
  program
    .command("completion")
    .description("print a completion script for a shell")
    .addArgument(new Argument("<shell>", "which shell").choices(SHELLS))
    .addHelpText("after", EXAMPLES)
    .action(
      action(io, ([shell]) => {
        io.stdout.write(completionScript(shell as Shell, completionTree(program)));
        return 0;
      }),
    );
}
