import { setTimeout as pause } from "node:timers/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { SortKey } from "../slots-view/board.ts";
import { action } from "./action.ts";
import { type CliIo, coloursFor } from "./io.ts";
import { register as registerReport } from "./slots-report.ts";
import { formatCount } from "./status-line.ts";

const EXAMPLES = `
Shows what each process does, measured in slots of a millisecond by the kernel. No agent is needed; the privilege is:
CAP_BPF and CAP_PERFMON, or root. On a terminal the keys c, w and n sort, q quits; elsewhere it prints lines.

  CPU %       of one processor, over the last second
  WAIT        milliseconds in each second that it was ready to run and had to wait for a processor
  WORST       the longest of that within a single slot
  NOISE       milliseconds that others waited while it ran: a noisy neighbour has many
  RUN         the longest time that it kept a processor to itself, without a break

Examples:
  tailrace slots
  tailrace slots --sort wait --seconds 10 | cat
  tailrace slots --json | jq 'select(.runqueue_wait_ns > 1e6)'
  tailrace slots report /data/slots-20261121T101500.parquet -o slots.html`;

const SORTS = { cpu: "cpuNs", wait: "waitNs", noise: "noiseNs" } as const satisfies { [word: string]: SortKey };

interface Options {
  readonly slotMs: number;
  readonly sort: keyof typeof SORTS;
  readonly seconds?: number;
  readonly json?: boolean;
}

/** `tailrace slots`: time slots, live; and `tailrace slots report FILE`. */
export function register(program: Command, io: CliIo): void {
  const command = program
    .command("slots")
    .description("what each process does, millisecond by millisecond: live, or from a Parquet file as an HTML page")
    .option("--slot-ms <n>", "length of a slot, milliseconds", slotLength, 1)
    .addOption(new Option("--sort <by>", "what to sort by").choices(Object.keys(SORTS)).default("cpu"))
    .option("--seconds <n>", "end after so long", positive)
    .option("--json", "print every slot of every process as NDJSON instead")
    .addHelpText("after", EXAMPLES)
    .action(action(io, (_args, options: Options) => slots(options, io)));
  registerReport(command, io);
}

function slotLength(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > 1000)
    throw new InvalidArgumentError("Give a whole number of milliseconds, 1 to 1000.");
  return number;
}

function positive(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0)) throw new InvalidArgumentError("Give a number of seconds above 0.");
  return seconds;
}

/** The kernel's ring holds much more than that. */
const LOOK_MS = 50;
/** Above this fill the next look comes at once. */
const BUSY_FILL = 0.125;
/** A few times a second is what an eye follows. */
const PAINT_MS = 250;
const PLAIN_MS = 1000;
const PLAIN_PROCESSES = 10;

async function slots(options: Options, io: CliIo): Promise<number> {
  const [{ openSlotFeed, slotsOf }, { Board }] = await Promise.all([
    import("../slots-view/slot-feed.ts"),
    import("../slots-view/board.ts"),
  ]);
  const feed = await openSlotFeed(options.slotMs);
  const stop = new AbortController();
  const onStop = () => stop.abort();
  process.once("SIGINT", onStop).once("SIGTERM", onStop).once("SIGHUP", onStop);
  // `tailrace slots | head` closes its end when it has seen enough.
  io.stdout.once?.("error", onStop);
  const deadline = options.seconds === undefined ? undefined : setTimeout(onStop, options.seconds * 1000);
  const board = new Board();
  const isScreen = options.json !== true && io.stdout.isTTY === true && io.env["TERM"] !== "dumb";
  const output: Output = options.json
    ? new JsonOutput(io)
    : isScreen
      ? new Screen(io, options, onStop)
      : new Plain(io, options);
  try {
    await output.begin();
    let nextMs = Date.now() + (isScreen ? PAINT_MS : PLAIN_MS);
    while (!stop.signal.aborted) {
      const events = feed.look();
      if (output.take !== undefined) output.take(events);
      else for (const slot of slotsOf(events)) board.add(slot);
      if (Date.now() >= nextMs) {
        output.show(board);
        nextMs = Date.now() + (isScreen ? PAINT_MS : PLAIN_MS);
      }
      if (feed.fill <= BUSY_FILL) await pause(LOOK_MS, undefined, { signal: stop.signal }).catch(() => {});
      else await pause(1);
    }
    return 0;
  } finally {
    output.end();
    feed.close();
    clearTimeout(deadline);
    process.off("SIGINT", onStop).off("SIGTERM", onStop).off("SIGHUP", onStop);
  }
}

interface Output {
  begin(): Promise<void>;
  take?(events: readonly object[]): void;
  show(board: Board): void;
  end(): void;
}

type Board = InstanceType<typeof import("../slots-view/board.ts").Board>;
type ScreenModule = typeof import("../slots-view/screen.ts");

/** Every slot as a line of JSON. Who reads slowly misses some, and is told how many. */
class JsonOutput implements Output {
  readonly #io: CliIo;
  #isFull = false;
  #shown = 0;
  #skipped = 0;

  constructor(io: CliIo) {
    this.#io = io;
  }

  async begin(): Promise<void> {}

  take(events: readonly object[]): void {
    if (this.#isFull) {
      this.#skipped += events.length;
      return;
    }
    if (events.length === 0) return;
    this.#shown += events.length;
    this.#isFull = this.#io.stdout.write(`${events.map((event) => JSON.stringify(event)).join("\n")}\n`) === false;
    if (this.#isFull && this.#io.stdout.once !== undefined) {
      this.#io.stdout.once("drain", () => {
        this.#isFull = false;
      });
    } else this.#isFull = false;
  }

  show(): void {}

  end(): void {
    if (this.#skipped === 0) return;
    const paint = coloursFor(this.#io.stderr, this.#io.env);
    const text = `${formatCount(this.#skipped)} time slots were left out, beside ${formatCount(this.#shown)} shown: they came too fast`;
    this.#io.stderr.write(`${paint.yellow("note:")} ${text}\n`);
  }
}

/** Lines, for who is no terminal. */
class Plain implements Output {
  readonly #io: CliIo;
  readonly #sortBy: SortKey;
  #screen: ScreenModule | undefined;

  constructor(io: CliIo, options: Options) {
    this.#io = io;
    this.#sortBy = SORTS[options.sort];
  }

  async begin(): Promise<void> {
    this.#screen = await import("../slots-view/screen.ts");
  }

  show(board: Board): void {
    const lines = this.#screen!.plainLines(board, Date.now(), this.#sortBy, PLAIN_PROCESSES);
    if (lines.length > 0) this.#io.stdout.write(`${lines.join("\n")}\n`);
  }

  end(): void {}
}

const ENTER = "\u001b[?1049h\u001b[?25l\u001b[2J";
const LEAVE = "\u001b[?25h\u001b[?1049l";

/** The whole terminal, which gets back what it showed before. */
class Screen implements Output {
  readonly #io: CliIo;
  readonly #slotMs: number;
  readonly #onStop: () => void;
  #sortBy: SortKey;
  #screen: ScreenModule | undefined;
  #board: Board | undefined;

  constructor(io: CliIo, options: Options, onStop: () => void) {
    this.#io = io;
    this.#slotMs = options.slotMs;
    this.#sortBy = SORTS[options.sort];
    this.#onStop = onStop;
  }

  async begin(): Promise<void> {
    this.#screen = await import("../slots-view/screen.ts");
    this.#io.stdout.write(ENTER);
    // Whatever ends the process: a terminal without a cursor is nobody's friend.
    process.once("exit", this.#restore);
    const { stdin } = process;
    if (stdin.isTTY) stdin.setRawMode(true);
    stdin.on("data", this.#onKey).resume();
    process.on("SIGWINCH", this.#repaint);
  }

  show(board: Board): void {
    this.#board = board;
    const { stdout, env } = this.#io;
    const lines = this.#screen!.screenLines(board, {
      columns: stdout.columns ?? 80,
      rows: stdout.rows ?? 24,
      sortBy: this.#sortBy,
      slotMs: this.#slotMs,
      nowMs: Date.now(),
      paint: coloursFor(stdout, env),
    });
    // Line by line over what was there: nothing flickers, and a terminal far away gets one piece.
    stdout.write(`\u001b[H${lines.map((line) => `${line}\u001b[K`).join("\r\n")}\u001b[J`);
  }

  end(): void {
    const { stdin } = process;
    stdin.off("data", this.#onKey).pause();
    if (stdin.isTTY) stdin.setRawMode(false);
    process.off("SIGWINCH", this.#repaint);
    process.off("exit", this.#restore);
    this.#restore();
  }

  readonly #restore = (): void => {
    this.#io.stdout.write(LEAVE);
  };

  readonly #repaint = (): void => {
    if (this.#board === undefined) return;
    this.#io.stdout.write("\u001b[2J");
    this.show(this.#board);
  };

  readonly #onKey = (bytes: Buffer): void => {
    for (const key of bytes.toString("latin1")) {
      // In raw mode Ctrl-C is a character.
      if (key === "q" || key === "Q" || key === "\u0003") {
        this.#onStop();
        return;
      }
      const sortBy = ({ c: "cpuNs", w: "waitNs", n: "noiseNs" } as const)[key.toLowerCase()];
      if (sortBy === undefined) continue;
      this.#sortBy = sortBy;
      this.#repaint();
    }
  };
}
