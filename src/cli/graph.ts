import { type Command, Option } from "commander";
import { withThreads } from "../transform-threads/with-threads.ts";
import { action } from "./action.ts";
import { type ConfigOptions, loadPlanFromOptions, withConfigOptions } from "./config-options.ts";
import { FORMATS, type GraphFormat, graphOfPlan } from "./graph-drawing.ts";
import type { CliIo } from "./io.ts";

const EXAMPLES = `
Draws every component and every channel between them, each with its size and what happens when it is full.

Examples:
  tailrace graph --format ascii
  tailrace graph --format dot | dot -Tsvg > pipeline.svg`;

/** `tailrace graph`: the pipeline as a drawing. */
export function register(program: Command, io: CliIo): void {
  withConfigOptions(program.command("graph").description("draw the pipeline with its channels"))
    .addOption(new Option("--format <format>", "what to draw it in").choices(Object.keys(FORMATS)).default("mermaid"))
    .addHelpText("after", EXAMPLES)
    .action(
      action(io, async (_, options: ConfigOptions & { format: GraphFormat }) => {
        const { plan } = await loadPlanFromOptions(options, io, { needs: "file" });
        io.stdout.write(FORMATS[options.format](graphOfPlan(withThreads(plan))));
        return 0;
      }),
    );
}
