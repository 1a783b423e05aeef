import type { Worker } from "node:worker_threads";
import type { Broadcast, BroadcastReceiver } from "../channel/index.ts";
import { toError } from "../errors.ts";
import type { Clock } from "../runtime/clock.ts";
import { startThreadProgram } from "../runtime/thread-program.ts";
import type { Logger } from "../telemetry/log.ts";
import type { HandlerEvent } from "./lifecycle.ts";
import { logLines } from "./log-lines.ts";
import type { HandlerMessage } from "./task.ts";
import type { FromThread, ThreadData, ToThread } from "./thread-messages.ts";
import type { WorkerLink, WorkerListener } from "./worker-link.ts";

export interface TaskModuleOptions {
  /** File of the module. */
  readonly module: string;
  /** For a module that listens. */
  readonly events: Broadcast<HandlerEvent> | undefined;
  readonly log: Logger;
  readonly clock: Clock;
}

/** Loads the module in a thread, and ends that again. @returns why it is no handler; undefined: it is one. */
export async function tryModule(options: TaskModuleOptions): Promise<string | undefined> {
  let link: WorkerLink | undefined;
  const reason = await new Promise<string | undefined>((resolve) => {
    link = startThread(options, { ready: () => resolve(undefined), answer() {}, broken: resolve, ended: resolve });
  });
  link?.kill();
  return reason;
}

/**
 * A worker in a thread of this process, running a module of the user's. Its console is logged; what it throws outside of a
 * call ends the thread, and `process.exit` in it ends the thread alone.
 */
export function startThread(options: TaskModuleOptions, listener: WorkerListener): WorkerLink {
  return new TaskModule(options, listener);
}

class TaskModule implements WorkerLink {
  readonly #worker: Worker;
  readonly #listener: WorkerListener;
  readonly #events: Broadcast<HandlerEvent> | undefined;
  #subscription: BroadcastReceiver<HandlerEvent> | undefined;
  /** Given in this turn. */
  readonly #outbox: HandlerMessage[] = [];
  #hasEnded = false;
  #lastError: string | undefined;

  constructor({ module, events, log, clock }: TaskModuleOptions, listener: WorkerListener) {
    this.#listener = listener;
    this.#events = events;
    const workerData: ThreadData = { module };
    this.#worker = startThreadProgram("handlers/task-thread", { workerData, stdout: true, stderr: true });
    logLines(this.#worker.stdout, log, clock);
    logLines(this.#worker.stderr, log, clock);
    this.#worker.on("message", (message: FromThread) => this.#hear(message));
    this.#worker.on("messageerror", (error) => listener.broken(`it answered what cannot be read: ${error.message}`));
    this.#worker.on("error", (error) => {
      this.#lastError = `it failed outside of a call: ${toError(error).message}`;
    });
    this.#worker.once("exit", (code) => {
      this.#hasEnded = true;
      this.#subscription?.close();
      const how = this.#lastError === undefined && code === 0 ? "finished" : "failed";
      listener.ended(this.#lastError ?? `its thread ended with code ${code}`, how);
    });
  }

  give(message: HandlerMessage): void {
    this.#outbox.push(message);
    if (this.#outbox.length === 1) queueMicrotask(() => this.#send(this.#outbox.splice(0)));
  }

  #send(messages: readonly HandlerMessage[]): void {
    if (this.#hasEnded || messages.length === 0) return;
    try {
      this.#post({ kind: "tasks", messages });
    } catch (error) {
      if (messages.length > 1) {
        for (const message of messages) this.#send([message]);
        return;
      }
      // A field that is no data (made by a transform of a library user) cannot go into a thread, now or ever.
      const reason = `the event cannot be handed to a thread: ${toError(error).message}`;
      this.#listener.answer({ id: messages[0]!.id, ok: false, error: reason, retry: false });
    }
  }

  finish(): void {
    this.#subscription?.close();
    if (!this.#hasEnded) this.#post({ kind: "finish" });
  }

  terminate(): void {
    void this.#worker.terminate();
  }

  kill(): void {
    void this.#worker.terminate();
  }

  #post(message: ToThread): void {
    this.#worker.postMessage(message);
  }

  #hear(message: FromThread): void {
    if (this.#hasEnded) return;
    if (message.kind === "answers") for (const answer of message.answers) this.#listener.answer(answer);
    else if (message.kind === "heard") this.#tellNext();
    else if (message.kind === "ready") {
      if (message.listens) {
        this.#subscription = this.#events?.subscribe();
        this.#tellNext();
      }
      this.#listener.ready();
    } else {
      this.#lastError = message.reason;
      this.kill();
    }
  }

  /** One event at a time: what the thread is too slow for waits in its own ring, which tells how much it lost. */
  #tellNext(): void {
    const subscription = this.#subscription;
    if (subscription === undefined) return;
    void subscription.recv().then((item) => {
      if (item === undefined || this.#hasEnded) return;
      if (item.missed !== undefined) this.#post({ kind: "event", missed: item.missed });
      else this.#post({ kind: "event", event: item.value });
    });
  }
}
