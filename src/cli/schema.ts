import type { Command } from "commander";
import { action } from "./action.ts";
import type { CliIo } from "./io.ts";

const EXAMPLES = `
Examples:
  tailrace schema > tailrace.schema.json
  # then, at the top of tailrace.toml, for editors with a TOML language server:
  #:schema ./tailrace.schema.json`;

/** `tailrace schema`: the JSON Schema of the configuration. */
export function register(program: Command, io: CliIo): void {
  program
    .command("schema")
    .description("print the JSON Schema of the configuration, for editors")
    .addHelpText("after", EXAMPLES)
    .action(
      action(io, async () => {
        const { configJsonSchema } = await import("../config/json-schema.ts");
        const stages = io.stages ?? (await import("../stages.ts")).builtInStages;
        io.stdout.write(`${JSON.stringify(configJsonSchema(stages), null, 2)}\n`);
        return 0;
      }),
    );
}
