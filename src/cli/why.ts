import { resolve } from "node:path";
import type { Command } from "commander";
import { action } from "./action.ts";
import { type ConfigOptions, withConfigOptions } from "./config-options.ts";
import type { CliIo } from "./io.ts";
import { readStore, stateFromOptions } from "./state.ts";

type Options = ConfigOptions & { readonly json?: boolean };

/** What one source says of a path; what else it knows is printed below. */
interface Answer {
  readonly source: string;
  readonly answer: string;
  readonly [fact: string]: unknown;
}

const EXAMPLES = `
Examples:
  tailrace why /var/log/syslog
  tailrace why /var/log/syslog --json`;

/** `tailrace why`: why a file is, or is not, being read. */
export function register(program: Command, io: CliIo): void {
  const command = program.command("why").description("why this file is, or is not, being read; where it stands");
  withConfigOptions(command.argument("<path>"))
    .option("--json", "print JSON")
    .addHelpText("after", EXAMPLES)
    .action(
      action(io, async ([given], options: Options) => {
        const path = given!.startsWith("/") ? given! : resolve(io.cwd, given!);
        const answers = await answersFor(path, options, io);
        if (options.json) io.stdout.write(`${JSON.stringify(answers, null, 2)}\n`);
        else if (answers.length === 0) io.stdout.write("no source of the configuration reads files\n");
        else for (const each of answers) io.stdout.write(textOf(path, each));
        return 0;
      }),
    );
}

async function answersFor(path: string, options: Options, io: CliIo): Promise<Answer[]> {
  const { stateDir, plan, agent } = await stateFromOptions(options, io);
  if (agent !== undefined) return (await agent.get(`/why?path=${encodeURIComponent(path)}`)) as Answer[];
  const { Checkpoint } = await import("../checkpoint/index.ts");
  const checkpoint = new Checkpoint(await readStore(stateDir));
  const answers: Answer[] = [];
  for (const { name, definition, options: of } of plan.sources) {
    if (definition.whyAtRest === undefined) continue;
    const committedOf = (key: string) => {
      const prefixes = [...checkpoint.positionsOf(name, key).values()].map(({ prefix }) => prefix);
      return prefixes.length === 0 ? 0 : Math.min(...prefixes);
    };
    const stored = { entries: checkpoint.filesOf(name), committedOf };
    answers.push({ source: name, ...(await definition.whyAtRest(of, path, stored)) } as Answer);
  }
  return answers;
}

function textOf(path: string, { source, answer, path: _, ...facts }: Answer): string {
  const lines = [`${source}: ${path}: ${answer}`];
  for (const [name, value] of Object.entries(facts)) {
    const shown = Array.isArray(value) ? value.join(", ") : String(value);
    lines.push(`  ${name.padEnd(11)} ${shown}`);
  }
  return `${lines.join("\n")}\n`;
}
