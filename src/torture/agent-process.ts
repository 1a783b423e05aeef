import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync } from "node:fs";

/** What one line of an agent's log tells. */
export interface AgentEvent {
  readonly atMs: number;
  readonly event: string;
  readonly file?: string;
  readonly offset?: number;
  readonly bytes?: number;
  readonly msg?: string;
}

export interface AgentCommand {
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  /** Its output is appended here. */
  readonly logPath: string;
  readonly env?: { readonly [name: string]: string };
  /** A piece of its log that means that it is at work; none: it is as soon as it runs. */
  readonly readyText?: string;
}

/** The agent under torture, one process after the other. */
export class AgentProcess {
  readonly #command: AgentCommand;
  readonly #onEvent: (event: AgentEvent) => void;
  #child: ChildProcess | undefined;
  #exited: Promise<number | null> = Promise.resolve(0);
  #isReady = false;
  #isStopped = false;
  #ended: number | null | undefined;
  #isWanted = false;
  starts = 0;

  constructor(command: AgentCommand, onEvent: (event: AgentEvent) => void) {
    this.#command = command;
    this.#onEvent = onEvent;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get isUp(): boolean {
    return this.#child !== undefined && this.#ended === undefined;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  /** It runs, is not stopped, and has said that it is at work. */
  get isAtWork(): boolean {
    return this.isUp && this.#isReady && !this.#isStopped;
  }

  /** Its exit code if it ended although nobody asked. */
  get endedByItself(): number | null | undefined {
    return this.#isWanted ? this.#ended : undefined;
  }

  start(): void {
    const { argv, cwd, logPath, env, readyText } = this.#command;
    const child = spawn(argv[0], argv.slice(1), {
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    this.starts += 1;
    this.#child = child;
    this.#ended = undefined;
    this.#isReady = readyText === undefined;
    this.#isStopped = false;
    this.#isWanted = true;
    let rest = "";
    const take = (text: string) => {
      appendFileSync(logPath, text);
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        if (readyText !== undefined && line.includes(readyText)) this.#isReady = true;
        const event = agentEvent(line);
        if (event !== undefined) this.#onEvent(event);
      }
    };
    child.stderr!.setEncoding("utf8").on("data", take);
    child.stdout!.setEncoding("utf8").on("data", take);
    child.on("error", (error) => appendFileSync(logPath, `${error.message}\n`));
    this.#exited = once(child, "close").then(
      ([code]) => {
        if (this.#child === child) this.#ended = code as number | null;
        return code as number | null;
      },
      () => {
        if (this.#child === child) this.#ended = 127;
        return 127;
      },
    );
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    this.#isWanted = false;
    this.#child?.kill("SIGKILL");
    await this.#exited;
  }

  pause(): void {
    this.#isStopped = true;
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#isStopped = false;
    this.#child?.kill("SIGCONT");
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** SIGTERM, and its exit code; undefined where it did not end within `limitMs` and was killed. */
  async end(limitMs: number): Promise<number | null | undefined> {
    this.#isWanted = false;
    this.#child?.kill("SIGTERM");
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), limitMs);
    });
    const code = await Promise.race([this.#exited, late]);
    clearTimeout(timer);
    if (code === undefined) await this.kill();
    return code;
  }
}

function agentEvent(line: string): AgentEvent | undefined {
  if (!line.startsWith('{"') || !line.includes('"event"')) return undefined;
  try {
    // The agent's own clock may jump.
    return { ...(JSON.parse(line) as Omit<AgentEvent, "atMs">), atMs: Date.now() };
  } catch {
    return undefined;
  }
}
