import type { Argument, Command, Option } from "commander";

/** What may follow an option, or stand as an argument. */
export type Follow =
  | { readonly kind: "words"; readonly words: readonly string[] }
  | { readonly kind: "file" | "folder" | "anything" };

interface CompletionOption {
  /** `-c`, `--config`. */
  readonly flags: readonly string[];
  readonly description: string;
  /** Undefined: it takes no value. */
  readonly value: Follow | undefined;
}

/** One command as a shell needs to know it. */
export interface CompletionNode {
  /** Names from below `tailrace` on; empty for the program itself. */
  readonly path: readonly string[];
  readonly description: string;
  readonly options: readonly CompletionOption[];
  readonly commands: readonly CompletionNode[];
  readonly args: readonly Follow[];
}

/** The command tree, read off the very commands that run; nothing about completion is written a second time. */
export function completionTree(command: Command, path: readonly string[] = []): CompletionNode {
  const help = command.createHelp();
  const commands = help.visibleCommands(command).map((child) => completionTree(child, [...path, child.name()]));
  const names = commands.map((child) => child.path.at(-1)!);
  return {
    path,
    description: command.description(),
    options: help.visibleOptions(command).map(completionOption),
    commands: commands.map((child) => (isHelp(child) ? { ...child, args: [words(names)] } : child)),
    args: command.registeredArguments.map(completionArgument),
  };
}

/** `help [command]` takes the name of a command beside it. */
const isHelp = (node: CompletionNode): boolean => node.path.at(-1) === "help";

const words = (all: readonly string[]): Follow => ({ kind: "words", words: all });

function completionOption(option: Option): CompletionOption {
  const flags = [option.short, option.long].filter((flag) => flag !== undefined && flag !== null);
  const takesValue = option.required || option.optional;
  return {
    flags,
    description: option.description,
    value: takesValue ? followOf(option, option.attributeName()) : undefined,
  };
}

const completionArgument = (argument: Argument): Follow => followOf(argument, argument.name());

/** By its choices, else by what it is called. */
function followOf(taker: { argChoices?: readonly string[] | undefined }, name: string): Follow {
  if (taker.argChoices !== undefined) return words(taker.argChoices);
  if (name === "env") return words(["development", "production", "test"]);
  if (/dir$/i.test(name)) return { kind: "folder" };
  return { kind: /config|file|path|glob/i.test(name) ? "file" : "anything" };
}

/** The node itself and everything below it. */
export function allNodes(node: CompletionNode): CompletionNode[] {
  return [node, ...node.commands.flatMap(allNodes)];
}
