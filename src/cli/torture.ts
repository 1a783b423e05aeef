import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Command, InvalidArgumentError, Option } from "commander";
import { ConfigError } from "../errors.ts";
import type { FullDisk } from "../torture/full-disk.ts";
import type { PeerName } from "../torture/peer-subject.ts";
import type { Ingredient, Subject } from "../torture/subject.ts";
import type { TrialResult } from "../torture/trial.ts";
import { action } from "./action.ts";
import { type ConfigOptions, loadPlanFromOptions } from "./config-options.ts";
import { type CliIo, coloursFor } from "./io.ts";
import { table } from "./table.ts";

interface TortureOptions {
  readonly config?: readonly string[];
  readonly minutes: number;
  readonly seed?: number;
  readonly peer?: PeerName;
  readonly peerBin?: string;
  readonly report?: string;
  readonly bin?: string;
  readonly without?: readonly Ingredient[];
  readonly only?: string;
  readonly keep?: boolean;
}

const PEERS: readonly PeerName[] = ["rsyslog", "syslog-ng", "vlagent", "otelcol", "fluent-bit"];

const HELP = `
Everything happens in a private folder: torture writes its own logs there, rotates them in every way, and runs an agent
of its own that is killed, stopped and starved. With -c, the options of your file sources, file sinks and http sinks are
taken over; your logs are not read, and your targets are not touched. A full disk needs root (a tmpfs is mounted), clock
jumps need libfaketime; what cannot be done is skipped, and said.

Exit: 0 every line arrived as promised, 1 a line was lost, or came twice where once is promised, 2 wrong usage.

Examples:
  tailrace torture --minutes 1
  tailrace torture -c /etc/tailrace/tailrace.toml --minutes 60 --report torture.html
  tailrace torture --seed 1234 --without moods,links   the same choices again, with less around them
  tailrace torture --peer rsyslog                      another agent through the same, and one table`;

/** `tailrace torture`: a long and hard try of the agent on this machine. */
export function register(program: Command, io: CliIo): void {
  const collect = (value: string, before: readonly string[] = []) => [...before, value];
  program
    .command("torture")
    .description("rotate logs in every way while the agent is killed, stopped and starved, and count every line")
    .addOption(
      new Option("-c, --config <path>", "configuration whose options are tried; may be repeated").argParser(collect),
    )
    .addOption(new Option("--minutes <n>", "how long it is disturbed").argParser(positive).default(2))
    .addOption(new Option("--seed <n>", "make the choices of an earlier run again").argParser(wholeNumber))
    .addOption(new Option("--peer <name>", "put another agent through the same, beside this one").choices(PEERS))
    .option("--peer-bin <path>", "the peer's program (default: found on PATH)")
    .option("--report <file>", "write the report as a page, and as text beside it")
    .option("--bin <path>", "the bin/tailrace.js to torture (default: this one)")
    .addOption(
      new Option("--without <kinds>", "leave out kinds of disturbance, to corner a fault").argParser(ingredients),
    )
    .option("--only <letters>", "run these logs only, of A to E")
    .option("--keep", "keep the folder even if all was right")
    .addHelpText("after", HELP)
    .action(action(io, (_, options: TortureOptions) => torture(options, io)));
}

const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

async function torture(options: TortureOptions, io: CliIo): Promise<number> {
  const seed = options.seed ?? Date.now() % 2 ** 31;
  const run = new TortureRun(options, seed, io);
  return run.whole();
}

/** One call of the command: its folder, its disk, and what must be cleaned up whatever happens. */
class TortureRun {
  readonly #options: TortureOptions;
  readonly #seed: number;
  readonly #io: CliIo;
  readonly #bin: string;
  #stop: (() => Promise<void>) | undefined;
  #isInterrupted = false;

  constructor(options: TortureOptions, seed: number, io: CliIo) {
    this.#options = options;
    this.#seed = seed;
    this.#io = io;
    this.#bin = options.bin ?? fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));
    if (!existsSync(this.#bin)) throw new ConfigError([{ message: `--bin: there is no ${this.#bin}` }], "TR_USAGE");
  }

  async whole(): Promise<number> {
    const interrupt = () => {
      if (this.#isInterrupted) process.exit(130);
      this.#isInterrupted = true;
      this.#io.stderr.write("interrupted: the agent is ended and the folder removed\n");
      void this.#stop?.();
    };
    for (const signal of INTERRUPTS) process.on(signal, interrupt);
    try {
      return this.#options.peer === undefined ? await this.#alone() : await this.#besidePeer(this.#options.peer);
    } finally {
      for (const signal of INTERRUPTS) process.off(signal, interrupt);
    }
  }

  async #alone(): Promise<number> {
    const { drawnSettings } = await import("../torture/tailrace-subject.ts");
    const settings = this.#options.config === undefined ? drawnSettings(this.#seed) : await this.#usersSettings();
    const outcome = await this.#one(async (folder, disk) => {
      const { tailraceSubject } = await import("../torture/tailrace-subject.ts");
      const { only } = this.#options;
      return tailraceSubject({
        seed: this.#seed,
        folder,
        ...this.#places(folder, disk),
        bin: this.#bin,
        settings,
        ...(only === undefined ? {} : { only }),
      });
    });
    if (outcome === undefined) return 130;
    this.#io.stdout.write(outcome.text);
    return outcome.result.isRight ? 0 : 1;
  }

  async #besidePeer(peer: PeerName): Promise<number> {
    const { findPeer, peerSubject, asPeer } = await import("../torture/peer-subject.ts");
    const { drawnSettings, tailraceSubject } = await import("../torture/tailrace-subject.ts");
    const { peerTable } = await import("../torture/peer-table.ts");
    const program = findPeer(peer, this.#options.peerBin, this.#io.env["PATH"] ?? "");
    const results: TrialResult[] = [];
    for (const make of [
      (folder: string, disk: string | undefined) =>
        asPeer(
          peer,
          tailraceSubject({
            seed: this.#seed,
            folder,
            ...this.#places(folder, disk),
            bin: this.#bin,
            settings: drawnSettings(this.#seed),
          }),
        ),
      (folder: string) => peerSubject(peer, program, folder),
    ]) {
      const outcome = await this.#one(async (folder, disk) => make(folder, disk));
      if (outcome === undefined) return 130;
      results.push(outcome.result);
      if (results.length === 1 && !outcome.result.isRight) this.#io.stdout.write(`${outcome.text}\n`);
    }
    const { heading, rows } = peerTable(results);
    this.#io.stdout.write(table(heading, rows));
    // The peer's losses are its own affair.
    return results[0]!.isRight ? 0 : 1;
  }

  /** A disk in memory has no room for the outputs of a long run. */
  #places(folder: string, disk: string | undefined): { readonly stateDisk: string; readonly outputDisk: string } {
    const isLong = this.#options.minutes > LONGEST_WITH_OUTPUTS;
    return { stateDisk: disk ?? folder, outputDisk: isLong ? folder : (disk ?? folder) };
  }

  async #usersSettings() {
    const { takeOver } = await import("../torture/user-settings.ts");
    const given: ConfigOptions = { config: this.#options.config ?? [], set: [] };
    const { plan } = await loadPlanFromOptions(given, this.#io);
    return takeOver(plan);
  }

  /** One run of one agent; undefined when it was interrupted. */
  async #one(
    makeSubject: (folder: string, disk: string | undefined) => Promise<Subject>,
  ): Promise<{ readonly result: TrialResult; readonly text: string } | undefined> {
    const [
      { chanceMix },
      { Trial, keepEvidence },
      { FullDisk },
      { JumpingClock },
      { LiveScreen },
      { textReport, htmlReport },
    ] = await Promise.all([
      import("../torture/mix.ts"),
      import("../torture/trial.ts"),
      import("../torture/full-disk.ts"),
      import("../torture/jumping-clock.ts"),
      import("../torture/live-screen.ts"),
      import("../torture/report.ts"),
    ]);
    const { minutes, report, without = [], keep = false } = this.#options;
    const { stderr, env } = this.#io;
    const folder = mkdtempSync(join(tmpdir(), "tailrace-torture-"));
    let disk: FullDisk | undefined;
    let isKept = keep;
    try {
      const left = new Set(without);
      const skipped: string[] = [];
      if (!left.has("disk")) disk = FullDisk.mount(join(folder, "disk"), diskBytes(minutes));
      if (disk === undefined && !left.has("disk")) skipped.push("full disk: mounting a tmpfs needs root");
      if (disk !== undefined && minutes > LONGEST_WITH_OUTPUTS)
        skipped.push(
          `full disk under the outputs: for runs up to ${LONGEST_WITH_OUTPUTS} minutes; the state is on one`,
        );
      const subject = await makeSubject(folder, disk?.path);
      const clock = left.has("clock") || subject.without.has("clock") ? undefined : JumpingClock.find(folder);
      if (clock === undefined && !left.has("clock") && !subject.without.has("clock"))
        skipped.push("clock jumps: libfaketime is not installed (Debian: apt-get install faketime)");
      const trial = new Trial(subject, { seed: this.#seed, seconds: minutes * 60, folder, disk, clock });
      this.#stop = () => trial.abort();
      if (this.#isInterrupted) return undefined;
      stderr.write(`torture of ${subject.name}, seed ${this.#seed}, in ${folder}\n`);
      for (const what of skipped) stderr.write(`SKIPPED: ${what}\n`);
      for (const note of subject.notes) stderr.write(`${note}\n`);
      const screen = new LiveScreen(stderr, coloursFor(stderr, env), env["TERM"] === "dumb");
      screen.start(trial, `Torture of ${subject.name}, seed ${this.#seed}`, minutes * 60);
      const result = await chanceMix(trial, left).finally(() => screen.stop());
      if (this.#isInterrupted) return undefined;
      let text = textReport(result, skipped, folder);
      const html = htmlReport(result, skipped, folder);
      const isPeer = subject.name !== "tailrace";
      if (report !== undefined) writeReport(isPeer ? besides(report, subject.name) : report, text, html);
      // What a peer loses, nobody here looks into.
      if (!result.isRight && !isPeer) {
        isKept = true;
        keepEvidence(folder, result);
        writeReport(join(folder, "report.html"), text, html);
      }
      if (isKept) text += `kept: ${folder}\n`;
      return { result, text };
    } finally {
      if (isKept && disk !== undefined && !this.#isInterrupted) disk.keepIn(join(folder, "kept"));
      disk?.unmount();
      if (!isKept || this.#isInterrupted) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    }
  }
}

/** Up to here the outputs are on the disk that gets full, too; minutes. */
const LONGEST_WITH_OUTPUTS = 10;

/** Room for what a run writes; more than 1 GiB of memory is nobody's to take. */
function diskBytes(minutes: number): number {
  return Math.min(1 << 30, (96 + 60 * minutes) * (1 << 20));
}

/** `torture-vlagent.html` for `torture.html`. */
function besides(path: string, name: string): string {
  return `${path.replace(/\.html?$/, "")}-${name}.html`;
}

function writeReport(path: string, text: string, html: string): void {
  writeFileSync(path, html);
  writeFileSync(`${path.replace(/\.html?$/, "")}.txt`, text);
}

function positive(text: string): number {
  const minutes = Number(text);
  if (!(minutes > 0)) throw new InvalidArgumentError("give a number of minutes above 0.");
  return minutes;
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("give a whole number.");
  return Number(text);
}

const KINDS: readonly Ingredient[] = [
  "rename_create",
  "rename_compress",
  "rename_compress_older",
  "copytruncate",
  "copytruncate_compress",
  "truncate",
  "delete_create",
  "editor_save",
  "switch_symlink",
  "kills",
  "stops",
  "moods",
  "links",
  "alias",
  "disk",
  "clock",
];

function ingredients(text: string): readonly Ingredient[] {
  return text.split(",").map((name) => {
    const found = KINDS.find((kind) => kind === name.trim());
    if (found === undefined) throw new InvalidArgumentError(`allowed are ${KINDS.join(", ")}.`);
    return found;
  });
}
