/** What happens in the pools, broadcast on `worker/in_process_events` to handlers that listen (`onEvent` of a module). */
export type HandlerEvent = {
  /** The sink's name. */
  readonly handler: string;
} & (
  | { readonly event: "worker_started" | "worker_stopped"; readonly worker: number }
  | { readonly event: "worker_died"; readonly worker: number; readonly reason: string }
  | { readonly event: "task_done"; readonly id: string; readonly attempt: number }
  | {
      readonly event: "task_failed" | "task_refused";
      readonly id: string;
      readonly attempt: number;
      readonly reason: string;
    }
);
