import type { HandlerEvent } from "./lifecycle.ts";
import type { Answer, HandlerMessage } from "./task.ts";

/** What a thread is handed at its start. */
export interface ThreadData {
  /** File of the user's module. */
  readonly module: string;
}

/** Waking a thread costs more than most messages: what comes in one turn goes together. */
export type ToThread =
  | { readonly kind: "tasks"; readonly messages: readonly HandlerMessage[] }
  /** `missed`: so many events before this one, which it was too slow for. */
  | { readonly kind: "event"; readonly event?: HandlerEvent; readonly missed?: number }
  | { readonly kind: "finish" };

export type FromThread =
  | { readonly kind: "ready"; readonly listens: boolean }
  | { readonly kind: "unusable"; readonly reason: string }
  | { readonly kind: "answers"; readonly answers: readonly Answer[] }
  /** The event was looked at: the next may come. */
  | { readonly kind: "heard" };
