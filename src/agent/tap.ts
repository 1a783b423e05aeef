import type { ChannelRegistry, Receiver, Sender } from "../channel/index.ts";
import type { ChannelSize } from "../config/plan.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Tap } from "../pipeline/tap.ts";
import { type Batch, DataRecord } from "../record/index.ts";
import type { Clock } from "../runtime/clock.ts";
import { TAP } from "./event-publisher.ts";

/** One `tailrace tap`: records as they leave a component. */
export interface TapSession extends Disposable {
  /** Events as JSON, one a string; undefined once the limit is reached, or the tap or the agent is closed. */
  next(options: { readonly signal: AbortSignal }): Promise<readonly string[] | undefined>;
  /** Records that went by without being shown, so far. */
  readonly skipped: number;
  close(): void;
}

/** People at a terminal, and files that they pipe into; more at once is a mistake. */
const MAX_SESSIONS = 8;

/**
 * Bytes of a tap's channel, beside its messages: what is turned into JSON between two looks of the reader is the most
 * that a tap costs the pipeline (about a thousand events, 2 ms, each 100 ms).
 */
const MAX_BYTES = 1024 * 1024;
const PACE_MS = 100;

/** Records as a message: one that is shown, or (no text) so many that are not even made into text. */
interface Shown {
  readonly text: string | undefined;
  readonly records: number;
}

/**
 * The taps of an agent. A component that nobody taps costs nothing: it has no tap. One that is tapped hands its batches
 * to every session, each of which takes what its channel has room for and counts the rest.
 */
export class Taps {
  readonly #channels: ChannelRegistry;
  readonly #clock: Clock;
  readonly #size: ChannelSize;
  readonly #pipeline: Pick<Pipeline, "tappable">;
  readonly #sessions = new Map<string, Set<Session>>();
  #isClosed = false;

  constructor(options: {
    channels: ChannelRegistry;
    clock: Clock;
    size: ChannelSize;
    pipeline: Pick<Pipeline, "tappable">;
  }) {
    this.#channels = options.channels;
    this.#clock = options.clock;
    this.#size = options.size;
    this.#pipeline = options.pipeline;
  }

  /** Shows at most `limit` records of a component; "unknown": there is no such component, "busy": too many taps. */
  open(component: string, limit: number): TapSession | "unknown" | "busy" {
    if (this.#pipeline.tappable(component) === undefined) return "unknown";
    const all = [...this.#sessions.values()].reduce((sum, some) => sum + some.size, 0);
    if (this.#isClosed || all >= MAX_SESSIONS) return "busy";
    const sessions = this.#sessions.get(component) ?? new Set();
    this.#sessions.set(component, sessions);
    const { sender, receiver } = this.#channel(component);
    const session = new Session({
      sender,
      receiver,
      clock: this.#clock,
      capacity: this.#size.bufferSize,
      limit,
      onClose: () => {
        sessions.delete(session);
        this.#attach(component, sessions);
      },
    });
    sessions.add(session);
    this.#attach(component, sessions);
    return session;
  }

  /** To be called after components were replaced: whoever tapped one taps its successor, or ends with it. */
  attach(): void {
    for (const [component, sessions] of this.#sessions) {
      if (this.#attach(component, sessions)) continue;
      for (const session of sessions) session.finish();
    }
  }

  /** False: there is no such component any more. */
  #attach(component: string, sessions: ReadonlySet<Session>): boolean {
    const tapped = this.#pipeline.tappable(component);
    if (tapped === undefined) return false;
    const all: Tap = (batch) => {
      for (const each of sessions) each.take(batch);
    };
    tapped.tap = sessions.size === 0 ? undefined : all;
    return true;
  }

  /** Ends every session; what is in their channels is still shown. */
  close(): void {
    this.#isClosed = true;
    for (const sessions of this.#sessions.values()) for (const session of sessions) session.finish();
  }

  /** Labelled with the component; several taps of one component at once are told apart by a number. */
  #channel(component: string): { sender: Sender<Shown>; receiver: Receiver<Shown> } {
    const inUse = new Set(
      this.#channels
        .list()
        .filter((channel) => channel.component === TAP && !channel.isOver)
        .map(({ channel }) => channel),
    );
    let name = component;
    for (let number = 2; inUse.has(name); number += 1) name = `${component}.${number}`;
    return this.#channels.create<Shown>({
      component: TAP,
      channel: name,
      why: `what a \`tailrace tap\` shows of ${component}; it must never slow it down`,
      clock: this.#clock,
      capacity: this.#size.bufferSize,
      capacityBytes: MAX_BYTES,
      // What is not shown fits nowhere: a channel with anything in it drops it.
      sizeOf: ({ text }) => text?.length ?? MAX_BYTES,
      recordsOf: ({ records }) => records,
      overflow: "drop_newest",
    });
  }
}

interface SessionParts {
  readonly sender: Sender<Shown>;
  readonly receiver: Receiver<Shown>;
  readonly clock: Clock;
  readonly capacity: number;
  readonly limit: number;
  readonly onClose: () => void;
}

class Session implements TapSession {
  readonly #parts: SessionParts;
  /** Records that may still be taken. */
  #left: number;
  #isFirst = true;
  skipped = 0;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.#left = parts.limit;
  }

  /** Called in the middle of the pipeline, with memory that is its own only now: nothing is kept, nothing waits. */
  take(batch: Batch): void {
    const { sender, capacity } = this.#parts;
    const { messages, bytes } = sender.counters();
    const room = Math.min(capacity - messages, this.#left, batch.count);
    let free = MAX_BYTES - bytes;
    let shown = 0;
    for (; shown < room && free > 0; shown += 1) {
      const text = jsonOf(recordOf(batch, shown));
      free -= text.length;
      sender.trySend({ text, records: 1 });
    }
    this.#left -= shown;
    if (shown < batch.count && this.#left > 0) sender.trySend({ text: undefined, records: batch.count - shown });
    this.skipped = sender.counters().records.dropped.policy;
    if (this.#left === 0) this.finish();
  }

  async next({ signal }: { readonly signal: AbortSignal }): Promise<readonly string[] | undefined> {
    const { receiver, clock, capacity } = this.#parts;
    // A pipeline faster than this is shown in parts.
    if (!this.#isFirst && !receiver.closed) await clock.sleep(PACE_MS, { signal });
    this.#isFirst = false;
    const shown = await receiver.recvMany(capacity, { signal });
    return shown.length === 0 ? undefined : shown.flatMap(({ text }) => text ?? []);
  }

  /** Takes no more; what was taken is still shown. */
  finish(): void {
    this.#parts.onClose();
    this.#parts.sender.close();
  }

  close(): void {
    this.finish();
    this.#parts.receiver.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Without making the records that nobody will look at. */
function recordOf(batch: Batch, index: number): DataRecord {
  return batch.lines === undefined ? batch.records[index]! : new DataRecord(batch.origin, batch.lines, index);
}

function jsonOf(record: DataRecord): string {
  try {
    return JSON.stringify(record.event);
  } catch (error) {
    // A transform may make anything of an event; a tap must not fail its pipeline.
    return JSON.stringify({ tap_error: `this event is no JSON: ${error instanceof Error ? error.message : error}` });
  }
}
