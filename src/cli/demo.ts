import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Argument, type Command, InvalidArgumentError } from "commander";
import { action } from "./action.ts";
import { type ConfigOptions, loadPlanFromOptions } from "./config-options.ts";
import { type CliIo, coloursFor } from "./io.ts";
import { type LogOptions, withLogOptions } from "./run.ts";
import { runAgent } from "./run-agent.ts";
import { formatCount } from "./status-line.ts";

/** Name of a tour -> what it shows. */
const TOURS: { readonly [name: string]: { readonly text: string; readonly run: Tour } } = {
  files: {
    text: "three programs log, their files are rotated under the agent, and every line arrives exactly once",
    run: filesTour,
  },
  queue: {
    text: "tasks in a Postgres queue that needs no server, worked on in threads, each archived when it is done",
    run: async (...given) => (await import("./demo-queue.ts")).queueTour(...given),
  },
};

type TourOptions = LogOptions & { readonly seconds?: number };
type Tour = (folder: string, options: TourOptions, io: CliIo) => Promise<number>;

const WRITE_MS = 20;
const ROTATE_EVERY_WRITES = 150;

/** `tailrace demo`: a self-contained tour in a temporary folder, with a live log writer. */
export function register(program: Command, io: CliIo): void {
  const tours = Object.entries(TOURS).map(([name, { text }]) => `  ${name}  ${text}`);
  withLogOptions(
    program
      .command("demo")
      .description("a self-contained tour with a live log writer, in a temporary folder")
      .addArgument(new Argument("[name]", "which tour").choices(Object.keys(TOURS)).default("files"))
      .option("--seconds <n>", "stop by itself after so long (default: Ctrl-C)", positive)
      .option("--keep", "keep the folder for a look"),
  )
    .addHelpText(
      "after",
      `\nTours:\n${tours.join("\n")}\n\nExamples:\n  tailrace demo\n  tailrace demo queue --seconds 10 --keep`,
    )
    .action(
      action(io, async ([name], options: LogOptions & { seconds?: number; keep?: boolean }) => {
        const folder = mkdtempSync(join(tmpdir(), "tailrace-demo-"));
        try {
          return await TOURS[name!]!.run(folder, options, io);
        } finally {
          if (options.keep) io.stderr.write(`kept: ${folder}\n`);
          else rmSync(folder, { recursive: true, force: true });
        }
      }),
    );
}

function positive(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0)) throw new InvalidArgumentError("give a number of seconds above 0.");
  return seconds;
}

async function filesTour(folder: string, options: TourOptions, io: CliIo): Promise<number> {
  const paint = coloursFor(io.stderr, io.env);
  const logs = join(folder, "logs");
  mkdirSync(logs);
  const output = join(folder, "collected.ndjson");
  const config = {
    state_dir: join(folder, "state"),
    api: { enabled: false },
    sources: { programs: { type: "file", include: [join(logs, "*.log")], scan_interval_ms: 200 } },
    transforms: { parse: { type: "json", inputs: ["programs"] } },
    sinks: { collected: { type: "file", inputs: ["parse"], path: output } },
  };
  io.stderr.write(
    `${paint.bold("Three programs write into")} ${logs}${paint.bold(", and their files are rotated every few seconds.")}\n` +
      `${paint.bold("Tailrace collects them into")} ${output}\n` +
      `Look with \`tail -f ${output}\` from another terminal; stop with Ctrl-C.\n`,
  );
  const empty: ConfigOptions = { config: [], set: [] };
  const { plan } = await loadPlanFromOptions(empty, io, { made: { by: "demo", config } });
  const writer = new DemoWriter(logs);
  const timer =
    options.seconds === undefined
      ? undefined
      : setTimeout(() => process.kill(process.pid, "SIGINT"), options.seconds * 1000);
  // The writer ends before the sources do, so that what was written is what can arrive.
  const stopWriter = () => writer.stop();
  process.once("SIGINT", stopWriter).once("SIGTERM", stopWriter);
  try {
    let code = await runAgent(plan, { once: false, logLevel: options.logLevel, logFormat: options.logFormat }, io);
    writer.stop();
    // What was written in the last instant is still in the files: one more pass reads it.
    if (code === 0) code = await runAgent(plan, { once: true, logLevel: "error", logFormat: options.logFormat }, io);
    return code === 0 ? verify(writer.written, output, io) : code;
  } finally {
    clearTimeout(timer);
    writer.stop();
    process.off("SIGINT", stopWriter).off("SIGTERM", stopWriter);
  }
}

/** Counts every line by its program and number: each must be there once. */
function verify(written: ReadonlyMap<string, number>, output: string, io: CliIo): number {
  const seen = new Map<string, number>();
  let repeated = 0;
  const text = existsSync(output) ? readFileSync(output, "utf8") : "";
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const { program, seq } = JSON.parse(line) as { program: string; seq: number };
    const key = `${program} ${seq}`;
    if (seen.has(key)) repeated += 1;
    seen.set(key, 1);
  }
  const total = [...written.values()].reduce((sum, count) => sum + count, 0);
  const missing = total - seen.size;
  io.stderr.write(
    `written ${formatCount(total)} lines, delivered ${formatCount(seen.size)}, missing ${missing}, repeated ${repeated}\n`,
  );
  return missing === 0 && repeated === 0 ? 0 : 1;
}

/** Three programs that log JSON lines, and something that rotates their files. */
class DemoWriter {
  readonly written = new Map<string, number>();
  readonly #folder: string;
  readonly #timer: NodeJS.Timeout;
  #writes = 0;

  constructor(folder: string) {
    this.#folder = folder;
    this.#timer = setInterval(() => this.#write(), WRITE_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #write(): void {
    this.#writes += 1;
    for (const program of ["shop", "stock", "mail"]) {
      const path = join(this.#folder, `${program}.log`);
      if (this.#writes % ROTATE_EVERY_WRITES === 0 && existsSync(path))
        renameSync(path, `${path}.${this.#writes / ROTATE_EVERY_WRITES}`);
      const seq = this.written.get(program) ?? 0;
      const level = seq % 50 === 0 ? "error" : "info";
      appendFileSync(
        path,
        `${JSON.stringify({ program, seq, level, text: `request ${seq} of ${program} was served` })}\n`,
      );
      this.written.set(program, seq + 1);
    }
  }
}
