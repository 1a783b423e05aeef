import type { EventSink } from "../telemetry/events.ts";

/** Whether a sink takes records, told when that changes. */
export class SinkHealth {
  readonly #sink: string;
  readonly #events: EventSink;
  /** Why it does not take anything, while it does not. */
  trouble: string | undefined;

  constructor(sink: string, events: EventSink) {
    this.#sink = sink;
    this.#events = events;
  }

  isUp(): void {
    if (this.trouble === undefined) return;
    this.trouble = undefined;
    this.#events.emit("sink_up", `${this.#sink} takes records again`, {});
  }

  isDown(reason: string): void {
    if (this.trouble === undefined)
      this.#events.emit("sink_down", `${this.#sink} does not take records: ${reason}`, { reason });
    this.trouble = reason;
  }
}
