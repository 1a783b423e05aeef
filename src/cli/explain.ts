import type { Command } from "commander";
import type { Explained } from "../config/index.ts";
import { action } from "./action.ts";
import { type ConfigOptions, loadPlanFromOptions, withConfigOptions } from "./config-options.ts";
import { type CliIo, coloursFor } from "./io.ts";

const EXAMPLES = `
Examples:
  tailrace explain sinks.out.path
  tailrace explain mpsc_channels -c config -e production
  tailrace explain api.address --set api.address=127.0.0.1:8080 --json`;

/** `tailrace explain KEY`: the effective value of a key, and the file and line that set it. */
export function register(program: Command, io: CliIo): void {
  const command = program
    .command("explain")
    .description("print the effective value of a key, and the file and line that set it")
    .argument("<key>", "a key, such as api.address, or a table: then all keys below it");
  withConfigOptions(command)
    .option("--json", "print JSON")
    .addHelpText("after", EXAMPLES)
    .action(
      action(io, async ([key], options: ConfigOptions & { json?: boolean }) => {
        const { explain } = await loadPlanFromOptions(options, io, { needs: "nothing" });
        const explanation = explain(key!);
        if (options.json) {
          const rows = explanation.keys.map(jsonOf);
          io.stdout.write(`${JSON.stringify(explanation.isTable ? rows : rows[0], null, 2)}\n`);
        } else printTable(explanation.keys, io);
        return 0;
      }),
    );
}

function jsonOf(explained: Explained) {
  const { key, value, place, setBy, variables, overrides } = explained;
  return {
    key,
    value: value ?? null,
    set_by: setBy,
    file: place?.file ?? null,
    line: place?.line ?? null,
    variables,
    overrides: overrides.map(({ file, line }) => ({ file, line: line ?? null })),
  };
}

/** Longer values push their comment to the right instead of all others. */
const WIDEST = 72;

function printTable(keys: readonly Explained[], io: CliIo): void {
  const paint = coloursFor(io.stdout, io.env);
  const rows = keys.map((explained) => ({ text: settingOf(explained), comment: commentOf(explained) }));
  const width = Math.min(WIDEST, Math.max(0, ...rows.map(({ text }) => text.length)));
  for (const { text, comment } of rows) io.stdout.write(`${text.padEnd(width)}  ${paint.dim(`# ${comment}`)}\n`);
}

const settingOf = ({ key, value }: Explained): string =>
  value === undefined ? `# ${key} =` : `${key} = ${toml(value)}`;

function commentOf({ setBy, variables, overrides }: Explained): string {
  const parts = [setBy];
  if (variables.length > 0) parts.push(`with ${variables.map((name) => `$${name}`).join(", ")}`);
  if (overrides.length > 0)
    parts.push(`over ${overrides.map(({ file, line }) => (line === undefined ? file : `${file}:${line}`)).join(", ")}`);
  return parts.join(", ");
}

/** A value as it would stand in a TOML file. */
function toml(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(toml).join(", ")}]`;
  if (typeof value === "object" && value !== null)
    return `{ ${Object.entries(value)
      .map(([key, child]) => `${/^[\w-]+$/.test(key) ? key : JSON.stringify(key)} = ${toml(child)}`)
      .join(", ")} }`;
  return String(value);
}
