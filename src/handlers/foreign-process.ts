import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { errnoOf, toError } from "../errors.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/log.ts";
import { answerOf, LineCutter, MAX_ANSWER_BYTES } from "./answer-lines.ts";
import { logLines } from "./log-lines.ts";
import type { Ending, WorkerLink, WorkerListener } from "./worker-link.ts";

/** How long what a dead worker wrote last is waited for, while something that it started holds the pipe open. */
const LAST_WORDS_MS = 200;

export interface ForeignProcessOptions {
  readonly command: readonly string[];
  readonly log: Logger;
  readonly clock: Clock;
}

/**
 * A worker in another language: messages to its standard input, answers from its standard output, each a line of JSON;
 * what it writes to standard error is logged.
 *
 * It leads a process group of its own: Ctrl-C in a terminal reaches the agent alone, which finishes its work in order, and
 * killing the worker kills what it has started. When the agent is killed, the worker's standard input ends, and a worker
 * that reads on ends with it.
 */
export function startProcess(options: ForeignProcessOptions, listener: WorkerListener): WorkerLink {
  const [program, ...args] = options.command;
  let child: ChildProcessWithoutNullStreams;
  try {
    child = spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"], detached: true });
  } catch (error) {
    // EMFILE, EAGAIN and their like are thrown, ENOENT is an event.
    queueMicrotask(() => listener.ended(`it cannot be started: ${toError(error).message}`, "failed"));
    return { give() {}, finish() {}, terminate() {}, kill() {} };
  }
  return new ForeignProcess(child, options, listener);
}

class ForeignProcess implements WorkerLink {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #listener: WorkerListener;
  #isFinishing = false;
  #hasEnded = false;

  constructor(child: ChildProcessWithoutNullStreams, { log, clock }: ForeignProcessOptions, listener: WorkerListener) {
    this.#child = child;
    this.#listener = listener;
    const broken = (reason: string) => {
      if (!this.#hasEnded && !this.#isFinishing) listener.broken(reason);
    };
    const answers = new LineCutter(
      MAX_ANSWER_BYTES,
      (line) => {
        if (line.trim() === "") return true;
        const answer = answerOf(line);
        if (typeof answer === "string") listener.broken(answer);
        else listener.answer(answer);
        return typeof answer !== "string";
      },
      () => {
        listener.broken(`it wrote a line of more than ${MAX_ANSWER_BYTES} bytes`);
        return false;
      },
    );
    child.stdout.on("data", (chunk: Buffer) => answers.push(chunk));
    // The exit that mostly comes with it says more.
    child.stdout.once("end", () =>
      clock.after(LAST_WORDS_MS, () => broken("it closed its standard output and went on running")),
    );
    // EPIPE: it reads no more. Either it is dying, or it will never get what it is given.
    child.stdin.on("error", () =>
      clock.after(LAST_WORDS_MS, () => broken("it closed its standard input and went on running")),
    );
    child.stdout.on("error", () => {});
    child.stderr.on("error", () => {});
    logLines(child.stderr, log.child({ worker_pid: child.pid }), clock);
    child.once("error", (error) => {
      if (child.pid === undefined) this.#end(`it cannot be started: ${error.message}`, "failed");
    });
    child.once("exit", (code, signal) => {
      const reason = signal === null ? `it exited with code ${code}` : `it was ended by ${signal}`;
      const how = signal !== null ? "signalled" : code === 0 ? "finished" : "failed";
      const end = () => this.#end(reason, how);
      if (child.stdout.readableEnded) end();
      else {
        child.stdout.once("end", end);
        clock.after(LAST_WORDS_MS, end);
      }
    });
    // Behind the caller's assignment of what this constructor gives.
    queueMicrotask(() => {
      if (child.pid !== undefined && !this.#hasEnded) listener.ready();
    });
  }

  give(message: object): void {
    const { stdin } = this.#child;
    // What is given in one turn goes in one write.
    if (stdin.writableCorked === 0) {
      stdin.cork();
      process.nextTick(() => stdin.uncork());
    }
    stdin.write(`${JSON.stringify(message)}\n`);
  }

  finish(): void {
    this.#isFinishing = true;
    this.#child.stdin.end();
  }

  terminate(): void {
    this.#isFinishing = true;
    this.#signal("SIGTERM");
  }

  kill(): void {
    this.#isFinishing = true;
    this.#signal("SIGKILL");
  }

  #signal(name: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined || this.#hasEnded) return;
    try {
      // The whole group: a shell does not hand a signal on to what it runs.
      process.kill(-pid, name);
    } catch (error) {
      if (errnoOf(error) !== "ESRCH") this.#child.kill(name);
    }
  }

  #end(reason: string, how: Ending): void {
    if (this.#hasEnded) return;
    // What it started and left behind, where it led the group: nobody else will end it.
    this.kill();
    this.#hasEnded = true;
    this.#child.stdin.destroy();
    this.#child.stdout.destroy();
    this.#child.stderr.destroy();
    this.#listener.ended(reason, how);
  }
}
