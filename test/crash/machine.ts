import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { TestContext } from "vitest";
import { errnoOf } from "../../src/errors.ts";

const AGENT = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));
const WRITER = fileURLToPath(new URL("./log-writer.mjs", import.meta.url));

/** A temporary folder with logs, an output and a state directory, and the processes that work in it. */
export class CrashMachine {
  readonly folder = mkdtempSync(join(tmpdir(), "tailrace-crash-"));
  readonly logs = this.#make("logs");
  readonly output = join(this.#make("out"), "out.log");
  readonly stateDir = join(this.folder, "state");
  readonly #agents: Agent[] = [];
  readonly #disks: Disk[] = [];
  #writer: Writer | undefined;
  #rotations = 0;

  /** The configuration of the agent; `sink` is the body of `[sinks.out]` but for its inputs. */
  configure(options: { include?: readonly string[]; sink?: string; more?: string; stateDir?: string } = {}): string {
    const include = options.include ?? ["*.log"];
    const path = join(this.folder, "tailrace.toml");
    writeFileSync(
      path,
      `state_dir = ${JSON.stringify(options.stateDir ?? this.stateDir)}
[api]
enabled = false
[sources.app]
type = "file"
include = ${JSON.stringify(include.map((glob) => join(this.logs, glob)))}
scan_interval_ms = 100
rotate_wait_ms = 300
[sinks.out]
inputs = ["app"]
${options.sink ?? `type = "file"\npath = ${JSON.stringify(this.output)}\nencoding = "raw"`}
${options.more ?? ""}
`,
    );
    return path;
  }

  agent(config: string, ...flags: string[]): Agent {
    return this.agentIn({}, config, ...flags);
  }

  /** An agent whose process is not as others are. */
  agentIn(surroundings: Surroundings, config: string, ...flags: string[]): Agent {
    const agent = new Agent(["run", "-c", config, ...flags], this.folder, surroundings);
    this.#agents.push(agent);
    return agent;
  }

  /** A folder among the logs. */
  folderOfLogs(name: string): string {
    return this.#make(join("logs", name));
  }

  /** A disk of its own of so many bytes below the folder; undefined where this process may not mount one. */
  disk(name: string, bytes: number): Disk | undefined {
    const disk = Disk.mount(this.#make(name), bytes);
    if (disk !== undefined) this.#disks.push(disk);
    return disk;
  }

  /** What another command of the program prints. */
  ask(...args: readonly string[]): string {
    return spawnSync(process.execPath, [AGENT, ...args], { cwd: this.folder, encoding: "utf8" }).stdout;
  }

  async writer(options: WriterOptions): Promise<Writer> {
    const journal = this.#make("journal");
    this.#writer = await Writer.start({ ...options, folder: this.logs, journal });
    return this.#writer;
  }

  /** Runs Debian's logrotate once, forced, over `*.log`. */
  rotate(directives: readonly string[]): void {
    this.#rotations += 1;
    const config = join(this.folder, "logrotate.conf");
    const body = ["rotate 1000", "missingok", "notifempty", ...directives].map((line) => `  ${line}`).join("\n");
    writeFileSync(config, `"${this.logs}/*.log" {\n${body}\n}\n`, { mode: 0o644 });
    const state = join(this.folder, "logrotate.state");
    const run = spawnSync("logrotate", ["-f", "-s", state, config], {
      encoding: "utf8",
      env: { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` },
    });
    if (run.status !== 0) throw new Error(`logrotate failed: ${run.error ?? run.stderr}`);
  }

  get rotations(): number {
    return this.#rotations;
  }

  /** True once so many logs hold something. */
  hasLogs(count: number): boolean {
    return readdirSync(this.logs).filter((name) => statSync(join(this.logs, name)).size > 0).length >= count;
  }

  /** Size of the output; 0 where there is none. */
  outputBytes(): number {
    return statSync(this.output, { throwIfNoEntry: false })?.size ?? 0;
  }

  outputHas(text: string): boolean {
    return existsSync(this.output) && readFileSync(this.output, "utf8").includes(text);
  }

  /** Lines of the output. */
  outputLines(): string[] {
    return this.linesOf(this.output);
  }

  linesOf(path: string): string[] {
    if (!existsSync(path)) return [];
    const text = readFileSync(path, "utf8");
    const lines = text.split("\n");
    const rest = lines.pop();
    return rest === "" ? lines : [...lines, `${rest} (without a delimiter)`];
  }

  outputNames(): string[] {
    return readdirSync(join(this.folder, "out")).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) agent.kill();
    await Promise.all(this.#agents.map((agent) => agent.exited));
    this.#writer?.kill();
    for (const disk of this.#disks) disk.unmount();
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  #make(name: string): string {
    const path = join(this.folder, name);
    mkdirSync(path, { recursive: true });
    return path;
  }
}

/** A tmpfs: full whenever a test says so. */
export class Disk {
  readonly path: string;
  readonly #filler: string;

  private constructor(path: string) {
    this.path = path;
    this.#filler = join(path, "filler");
  }

  static mount(path: string, bytes: number): Disk | undefined {
    const run = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", path], { stdio: "ignore" });
    return run.status === 0 ? new Disk(path) : undefined;
  }

  /** Leaves no byte. */
  fill(): void {
    const filler = openSync(this.#filler, "a");
    try {
      for (;;) writeSync(filler, Buffer.alloc(4096));
    } catch (error) {
      if (errnoOf(error) !== "ENOSPC") throw error;
    } finally {
      closeSync(filler);
    }
  }

  /** Takes back what `fill` took. */
  free(): void {
    rmSync(this.#filler);
  }

  unmount(): void {
    spawnSync("umount", ["-l", this.path], { stdio: "ignore" });
  }
}

export interface Surroundings {
  /** A command that becomes the agent: `["prlimit", "--nofile=64"]`. */
  readonly through?: readonly string[];
  /** The script to run in place of `bin/tailrace.js`. */
  readonly script?: string;
  /** Descriptor for its standard input; default: nothing to read. */
  readonly stdin?: number;
  readonly env?: { readonly [name: string]: string };
}

export interface Exit {
  /** Null: ended by a signal. */
  readonly code: number | null;
  readonly stderr: string;
}

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** One run of the real agent. */
export class Agent {
  readonly #child: ChildProcess;
  readonly exited: Promise<Exit>;
  #stderr = "";
  #isOver = false;

  constructor(args: readonly string[], folder: string, surroundings: Surroundings = {}) {
    const { through = [], script = AGENT, stdin = "ignore", env } = surroundings;
    const [command, ...before] = [...through, process.execPath];
    this.#child = spawn(command!, [...before, script, ...args], {
      cwd: folder,
      stdio: [stdin, "ignore", "pipe"],
      env: { ...process.env, ...env },
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.exited = once(this.#child, "close").then(([code]) => {
      this.#isOver = true;
      return { code: code as number | null, stderr: this.#stderr };
    });
  }

  get stderr(): string {
    return this.#stderr;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Lines of its log, and the plain ones (`error: ...`) as they are. */
  get log(): LogLine[] {
    const lines = this.#stderr.split("\n").slice(0, -1);
    return lines.map((line) => (line.startsWith("{") ? (JSON.parse(line) as LogLine) : { level: "plain", msg: line }));
  }

  /** True once a line of the log has `text` in its message; true as well when the agent is over. */
  hasSaid(text: string | RegExp): boolean {
    const has = typeof text === "string" ? (msg: string) => msg.includes(text) : (msg: string) => text.test(msg);
    return this.#isOver || this.log.some(({ msg }) => has(msg));
  }

  /** The most memory that it has had, MiB. Only while it runs. */
  get peakMiB(): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, "utf8");
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) / 1024;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** SIGKILL. */
  kill(): void {
    if (!this.#isOver) this.#child.kill("SIGKILL");
  }

  /** SIGKILL in the midst of its work: fails if it had ended by itself. Resolves when it is gone. */
  async killAtWork(): Promise<void> {
    if (this.#isOver) throw new Error(`the agent ended by itself:\n${this.#stderr}`);
    this.kill();
    await this.exited;
  }

  /** Waits for the end; kills and fails if it does not come in time. */
  async end(limitMs = 90_000): Promise<Exit> {
    const timer = setTimeout(() => {
      this.#stderr += `\n(the test gave up after ${limitMs} ms)`;
      this.kill();
    }, limitMs);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }
}

export interface WriterOptions {
  readonly files: readonly string[];
  readonly linesPerTick: number;
  readonly tickMs: number;
  readonly payloadBytes: number;
  /** Lines are now and then written in two pieces; not where a rotation may come between them. */
  readonly splitLines: boolean;
  readonly seed: number;
}

/** The live writer (log-writer.mjs). */
export class Writer {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  readonly #options: WriterOptions & { readonly folder: string; readonly journal: string };

  private constructor(options: WriterOptions & { readonly folder: string; readonly journal: string }) {
    this.#options = options;
    this.#child = spawn(process.execPath, [WRITER, JSON.stringify(options)], { stdio: ["pipe", "pipe", "inherit"] });
    this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  static async start(options: WriterOptions & { readonly folder: string; readonly journal: string }): Promise<Writer> {
    const writer = new Writer(options);
    await writer.#answer("started");
    return writer;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** No line is half-written, nothing is written, and afterwards all files are opened anew. */
  async whilePaused(run: () => void): Promise<void> {
    await this.#tell("pause");
    try {
      run();
    } finally {
      await this.#tell("resume");
    }
  }

  /** SIGSTOP: wherever it stands, the same descriptors afterwards. */
  async whileStopped(run: () => void): Promise<void> {
    this.#child.kill("SIGSTOP");
    // The signal takes effect a moment after kill(2) has returned; `T` in /proc/PID/stat is the proof.
    await until(
      () => / T /.test(readFileSync(`/proc/${this.pid}/stat`, "utf8").replace(/^.*\)/, "")),
      "the writer to stop",
    );
    try {
      run();
    } finally {
      this.#child.kill("SIGCONT");
    }
  }

  /** Says whether an agent reads along (see log-writer.mjs). */
  async watched(isWatched: boolean): Promise<void> {
    await this.#tell(isWatched ? "watched" : "unwatched");
  }

  /** After `stop`: lines whose place among their neighbours nothing promises. */
  lateLines(): Set<string> {
    const files = this.#options.files.map((file) => readFileSync(join(this.#options.journal, `${file}.late`), "utf8"));
    return new Set(files.flatMap((text) => text.split("\n")));
  }

  /** Ends it; gives what it wrote: file name -> lines. */
  async stop(): Promise<Map<string, string[]>> {
    await this.#tell("stop");
    if (this.#child.exitCode === null) await once(this.#child, "exit");
    return new Map(
      this.#options.files.map((file) => {
        const lines = readFileSync(join(this.#options.journal, file), "utf8").split("\n");
        return [file, lines.slice(0, -1)];
      }),
    );
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  async #tell(command: string): Promise<void> {
    this.#child.stdin!.write(`${command}\n`);
    await this.#answer(command);
  }

  async #answer(expected: string): Promise<void> {
    const { value, done } = await this.#answers.next();
    if (done || value !== expected) throw new Error(`the writer said ${JSON.stringify(value)} instead of ${expected}`);
  }
}

/** Waits until `condition` holds, looking every 10 ms; fails after `limitMs`. */
export async function until(condition: () => boolean, what: string, limitMs = 60_000): Promise<void> {
  const endMs = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > endMs) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await passing(10);
  }
}

/** Real time: the moment of a kill is what these tests draw, not something they wait for. */
export function passing(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What a test cannot do without: where it is missing the test is skipped, loudly, and in CI it fails. */
export function orSkip<T>(context: TestContext, thing: T | undefined, what: string): T {
  if (thing !== undefined) return thing;
  if (process.env["CI"] === "true") throw new Error(`CI must have ${what}`);
  console.warn(`SKIPPED: this needs ${what}`);
  return context.skip();
}

/**
 * The command in front of an agent that permissions count for, also if these tests are run by root, and that may do
 * nothing special; undefined where capabilities cannot be given up.
 */
export function unprivileged(): readonly string[] | undefined {
  const through = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
  if (process.getuid?.() !== 0) return [];
  return spawnSync(through[0]!, [...through.slice(1), "true"], { stdio: "ignore" }).status === 0 ? through : undefined;
}
