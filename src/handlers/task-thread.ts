import { parentPort, workerData } from "node:worker_threads";
import { toError } from "../errors.ts";
import { loadModule } from "../runtime/load-module.ts";
import type { Answer, HandlerMessage } from "./task.ts";
import type { FromThread, ThreadData, ToThread } from "./thread-messages.ts";

/*
 * What runs in a worker thread: loads the user's module and calls it for each message. It knows nothing of the agent but
 * its port.
 */

type UserFunction = (...args: readonly unknown[]) => unknown;

const isFunction = (value: unknown): value is UserFunction => typeof value === "function";

const port = parentPort!;
const tell = (message: FromThread): void => port.postMessage(message);

async function main({ module }: ThreadData): Promise<void> {
  let exports: { readonly [name: string]: unknown };
  try {
    exports = await loadModule(module);
  } catch (error) {
    return tell({ kind: "unusable", reason: toError(error).message });
  }
  const { default: run, onEvent } = exports;
  if (!isFunction(run))
    return tell({ kind: "unusable", reason: `${module}: its default export must be a function (event, task) => ...` });
  if (onEvent !== undefined && !isFunction(onEvent))
    return tell({ kind: "unusable", reason: `${module}: its export onEvent must be a function (event) => ...` });
  port.on("message", (message: ToThread) => {
    if (message.kind === "tasks") for (const task of message.messages) void answerTo(task, run).then(answered);
    else if (message.kind === "event") void hear(message, onEvent!).then(() => tell({ kind: "heard" }));
    else port.close();
  });
  tell({ kind: "ready", listens: onEvent !== undefined });
}

let answers: Answer[] = [];

function answered(answer: Answer): void {
  answers.push(answer);
  if (answers.length > 1) return;
  queueMicrotask(() => {
    tell({ kind: "answers", answers });
    answers = [];
  });
}

async function answerTo({ id, attempt, event }: HandlerMessage, run: UserFunction): Promise<Answer> {
  try {
    const result: unknown = await run(event, { id, attempt });
    return { id, ok: true, events: eventsOf(result) };
  } catch (thrown) {
    return { id, ok: false, error: textOf(thrown), retry: !isFinal(thrown) };
  }
}

/** What a call returns is of no interest but for `{ events: [...] }`, as in the answer of a foreign handler. */
function eventsOf(result: unknown): number {
  const isAnswer = typeof result === "object" && result !== null && "events" in result;
  return isAnswer && Array.isArray(result.events) ? result.events.length : 0;
}

/** `error.retry = false`: trying again would not help. */
function isFinal(thrown: unknown): boolean {
  return typeof thrown === "object" && thrown !== null && "retry" in thrown && thrown.retry === false;
}

function textOf(thrown: unknown): string {
  try {
    return thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  } catch {
    return "a value that cannot be shown";
  }
}

async function hear({ event, missed }: Extract<ToThread, { kind: "event" }>, onEvent: UserFunction): Promise<void> {
  try {
    await onEvent(event ?? { event: "events_missed", missed });
  } catch (error) {
    console.error(`onEvent failed: ${textOf(error)}`);
  }
}

void main(workerData as ThreadData);
