import type { Answer, HandlerMessage } from "./task.ts";

/** One living worker, a process or a thread: a new one for each start. */
export interface WorkerLink {
  /** Hands a message over; never waits. */
  give(message: HandlerMessage): void;
  /** Nothing more will come: the worker is asked to finish what it has, and to end. */
  finish(): void;
  /** Asks more firmly: SIGTERM. */
  terminate(): void;
  /** Ends it, whatever it does. */
  kill(): void;
}

/** What a worker tells. */
export interface WorkerListener {
  /** It can be given messages. */
  ready(): void;
  answer(answer: Answer): void;
  /** It broke the protocol, and what it says cannot be trusted any more; whoever listens kills it. */
  broken(reason: string): void;
  /** It is gone; the last word, said once. */
  ended(reason: string, how: Ending): void;
}

/** `finished`: by itself, with code 0; `signalled`: by a signal, which may have come from anywhere. */
export type Ending = "finished" | "failed" | "signalled";

/** Starts a worker. What goes wrong while it starts is told by `ended`, never thrown. */
export type StartWorker = (listener: WorkerListener) => WorkerLink;
