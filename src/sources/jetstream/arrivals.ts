import { JsonMessage } from "../../codec/json-message.ts";
import type { Memory } from "../../record/batch.ts";
import type { Arrival } from "./arrival.ts";
import type { UnackedMessage } from "./unacked.ts";

/** Messages that will be one batch. */
export interface Group {
  readonly messages: JsonMessage[];
  readonly unacked: UnackedMessage[];
  /** What ends with them, ascending. */
  readonly ranges: { start: number; end: number }[];
  /** Memory of their bodies. */
  readonly memories: Set<Memory>;
  bytes: number;
  /** Most deliveries of any of them. */
  deliveries: number;
  /** Must not share a batch with others. */
  readonly isAlone: boolean;
}

/**
 * Messages that arrived and are not sent on, in groups of rising sequence. Which numbers between two messages hold none
 * for us is known from the consumer's own count: two first deliveries in a row have nothing in between that matches. What
 * lies between others may be another agent's.
 */
export class Arrivals {
  readonly #groups: Group[] = [];
  /** The newest first delivery; what follows it in the consumer's count follows it in the stream. */
  #first: { readonly sequence: number; readonly consumerSequence: number } = { sequence: -1, consumerSequence: 0 };
  /** Behind the highest sequence that was claimed. */
  #end: number;
  /** The last message in front of which numbers were left out that may be somebody else's. */
  lastHole = 0;

  /** @param start Everything in front of it has ended. */
  constructor(start: number) {
    this.#end = start;
  }

  get isEmpty(): boolean {
    return this.#groups.length === 0;
  }

  add(arrival: Arrival, body: Buffer, memory: Memory, isAlone: boolean): UnackedMessage {
    const { sequence, subject, deliveries, reply } = arrival;
    const start = this.#claim(arrival);
    const end = sequence + 1;
    if (start > this.#end) this.lastHole = start;
    this.#end = Math.max(this.#end, end);
    let group = this.#groups.at(-1);
    const last = group?.messages.at(-1);
    if (group === undefined || isAlone || group.isAlone || last!.number >= start) {
      group = { messages: [], unacked: [], ranges: [], memories: new Set(), bytes: 0, deliveries: 0, isAlone };
      this.#groups.push(group);
    }
    const unacked = { sequence, reply };
    group.messages.push(new JsonMessage(sequence, body, { subject, sequence }));
    group.unacked.push(unacked);
    group.bytes += body.length;
    group.deliveries = Math.max(group.deliveries, deliveries);
    if (!group.memories.has(memory)) {
      memory.retain();
      group.memories.add(memory);
    }
    const range = group.ranges.at(-1);
    if (range !== undefined && range.end === start) range.end = end;
    else group.ranges.push({ start, end });
    return unacked;
  }

  take(): Group | undefined {
    return this.#groups.shift();
  }

  /** Takes what is left; it will not be sent on. */
  takeAll(): Group[] {
    return this.#groups.splice(0);
  }

  /** From where on everything up to this message ends with it. */
  #claim({ sequence, consumerSequence, deliveries }: Arrival): number {
    const before = this.#first;
    if (deliveries !== 1) return sequence;
    this.#first = { sequence, consumerSequence };
    return consumerSequence === before.consumerSequence + 1 && before.sequence < sequence
      ? before.sequence + 1
      : sequence;
  }
}

/** Gives back what a group holds. */
export function releaseGroup({ memories }: Pick<Group, "memories">): void {
  for (const memory of memories) memory.release();
}
