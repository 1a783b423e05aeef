import { open, rename, unlink } from "node:fs/promises";
import { basename, resolve } from "node:path";
import type { Command } from "commander";
import { ConfigError, toError } from "../errors.ts";
import { action } from "./action.ts";
import { type CliIo, coloursFor } from "./io.ts";
import { formatBytes } from "./status-line.ts";

const EXAMPLES = `
Writes one HTML page that needs nothing else: CPU of each process over time, a heat map of the time that processes waited
for a processor, the worst slots, and a table of all processes. Without -o it stands beside the file.

Examples:
  tailrace slots report /data/slots-20261121T101500.parquet
  tailrace slots report slots.parquet -o /tmp/slots.html`;

interface Options {
  readonly output?: string;
}

/** `tailrace slots report FILE`: a Parquet file of time slots as an HTML page. */
export function register(slots: Command, io: CliIo): void {
  slots
    .command("report")
    .description("a Parquet file of time slots as one self-contained HTML page with plots")
    .argument("<file>", "a file that the parquet sink wrote")
    .option("-o, --output <file>", "where to write the page; - is standard output (default: beside the file)")
    .addHelpText("after", EXAMPLES)
    .action(action(io, ([file = ""], options: Options) => report(file, options, io)));
}

async function report(file: string, { output }: Options, io: CliIo): Promise<number> {
  const [{ readReport }, { reportPage }] = await Promise.all([
    import("../slots-view/report-data.ts"),
    import("../slots-view/report-page.ts"),
  ]);
  const path = resolve(io.cwd, file);
  const handle = await open(path, "r").catch((error: unknown) => {
    throw new ConfigError([{ message: `${file} cannot be read: ${toError(error).message}` }], "TR_USAGE");
  });
  const bar = new ProgressBar(io, basename(path));
  try {
    const { size } = await handle.stat();
    const slice = async (start: number, end = size): Promise<ArrayBuffer> => {
      const bytes = new Uint8Array(end - start);
      let filled = 0;
      while (filled < bytes.length) {
        const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, start + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return bytes.buffer;
    };
    const data = await readReport(file, { byteLength: size, slice }, (fraction) => bar.show(fraction));
    bar.clear();
    const page = reportPage(data, { file: basename(path), bytes: size });
    if (output === "-") {
      io.stdout.write(page);
      return 0;
    }
    const target = resolve(io.cwd, output ?? `${path.replace(/\.parquet$/, "")}.html`);
    await replaceFile(target, page);
    const paint = coloursFor(io.stderr, io.env);
    io.stderr.write(`${paint.green("written:")} ${target} (${formatBytes(Buffer.byteLength(page))})\n`);
    return 0;
  } finally {
    bar.clear();
    await handle.close();
  }
}

/** A page that cannot be written whole must not stand in the place of one that was. */
async function replaceFile(target: string, text: string): Promise<void> {
  const temp = `${target}.${process.pid}.tmp`;
  try {
    const handle = await open(temp, "wx");
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temp, target);
  } catch (error) {
    await unlink(temp).catch(() => {});
    throw new ConfigError([{ message: `${target} cannot be written: ${toError(error).message}` }], "TR_USAGE");
  }
}

const BAR_COLUMNS = 30;

/** How far it is, on a terminal. */
class ProgressBar {
  readonly #io: CliIo;
  readonly #name: string;
  #isShown = false;

  constructor(io: CliIo, name: string) {
    this.#io = io;
    this.#name = name;
  }

  show(fraction: number): void {
    if (this.#io.stderr.isTTY !== true) return;
    const full = Math.round(fraction * BAR_COLUMNS);
    const bar = "█".repeat(full) + "░".repeat(BAR_COLUMNS - full);
    this.#io.stderr.write(`\r\u001b[2Kreading ${this.#name} ${bar} ${Math.round(fraction * 100)} %`);
    this.#isShown = true;
  }

  clear(): void {
    if (this.#isShown) this.#io.stderr.write("\r\u001b[2K");
    this.#isShown = false;
  }
}
