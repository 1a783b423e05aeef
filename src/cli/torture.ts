import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Command, InvalidArgumentError } from "commander";
import { type Ingredient, Mix, keepEvidence } from "../torture/mix.ts";
import { describeFaults } from "../torture/story.ts";
import { tailraceMix } from "../torture/tailrace-mix.ts";
import { action } from "./action.ts";
import type { CliIo } from "./io.ts";

interface TortureOptions {
  readonly minutes: number;
  readonly seed?: number;
  readonly bin?: string;
  readonly keep?: boolean;
  readonly without?: string;
  readonly only?: string;
}

/** `tailrace torture`: the chance mix against the agent on this machine. */
export function register(program: Command, io: CliIo): void {
  program
    .command("torture")
    .description("kill, stop and starve an agent while its logs are rotated in every way, and count every line")
    .option("--minutes <n>", "how long", positive, 2)
    .option("--seed <n>", "replay the choices of an earlier run", Number)
    .option("--bin <path>", "the bin/tailrace.js to torture (default: this one)")
    .option("--without <kinds>", "leave out kinds of rotation or disturbance, to corner a fault")
    .option("--only <families>", "letters of families to run")
    .option("--keep", "keep the folder for a look")
    .action(
      action(io, async (_, options: TortureOptions) => {
        const seed = options.seed ?? Date.now() % 2 ** 31;
        const folder = mkdtempSync(join(tmpdir(), "tailrace-torture-"));
        const bin = options.bin ?? fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));
        const without = new Set((options.without ?? "").split(",") as Ingredient[]);
        const mix = new Mix(tailraceMix({ seed, seconds: options.minutes * 60, folder, bin, without, ...(options.only === undefined ? {} : { only: options.only }) }));
        const startMs = Date.now();
        const timer = setInterval(
          () => io.stderr.write(`${Math.round((Date.now() - startMs) / 1000)} s: ${mix.state}\n`),
          10_000,
        );
        const stop = () => {
          mix.abort();
          rmSync(folder, { recursive: true, force: true });
          process.exit(130);
        };
        process.once("SIGINT", stop).once("SIGTERM", stop);
        io.stderr.write(`seed ${seed}, in ${folder}\n`);
        const result = await mix.run().finally(() => clearInterval(timer));
        const { figures, verdict, troubles } = result;
        io.stdout.write(`${JSON.stringify(figures)}\n`);
        for (const each of verdict.figures) io.stdout.write(`${JSON.stringify(each)}\n`);
        const isRight = verdict.isRight && troubles.length === 0;
        if (!isRight) io.stdout.write(`${describeFaults(result, folder)}\n`);
        if (isRight && !options.keep) rmSync(folder, { recursive: true, force: true });
        else {
          keepEvidence(folder, result);
          io.stdout.write(`kept: ${folder}\n`);
        }
        io.stdout.write(isRight ? `seed ${seed}: right\n` : `seed ${seed}: WRONG\n`);
        return isRight ? 0 : 1;
      }),
    );
}

function positive(text: string): number {
  const minutes = Number(text);
  if (!(minutes > 0)) throw new InvalidArgumentError("give a number of minutes above 0.");
  return minutes;
}
