import type { Range } from "../../record/index.ts";

/** A delivered message that is not acknowledged: how to do it, by its newest delivery. */
export interface UnackedMessage {
  readonly sequence: number;
  reply: string;
}

/** Messages that were sent on together. */
export interface UnackedGroup {
  /** What of the stream ends with them. */
  readonly ranges: readonly Range[];
  readonly messages: readonly UnackedMessage[];
}

/**
 * Messages that the consumer has delivered and that are not acknowledged: on their way through the pipeline, or waiting
 * for their commit. The consumer hands out no more than its `max_ack_pending`, which bounds this too.
 */
export class Unacked {
  readonly #groups = new Set<UnackedGroup>();
  readonly #messages = new Map<number, UnackedMessage>();

  get count(): number {
    return this.#messages.size;
  }

  /** True if the message is on its way already; its acknowledgement then goes by this newest delivery. */
  isKnown(sequence: number, reply: string): boolean {
    const message = this.#messages.get(sequence);
    if (message === undefined) return false;
    message.reply = reply;
    return true;
  }

  /** A message has arrived. */
  add(message: UnackedMessage): void {
    this.#messages.set(message.sequence, message);
  }

  /** It is sent on, with these. */
  addGroup(group: UnackedGroup): void {
    this.#groups.add(group);
  }

  /** Takes out the groups that `isSettled` says yes to, with where to acknowledge them. */
  takeSettled(isSettled: (range: Range) => boolean): string[] {
    const replies: string[] = [];
    for (const group of this.#groups) {
      if (!group.ranges.every(isSettled)) continue;
      this.#groups.delete(group);
      for (const { sequence, reply } of group.messages) {
        replies.push(reply);
        this.#messages.delete(sequence);
      }
    }
    return replies;
  }

  /** Where to say something of each message that is left. */
  replies(): string[] {
    return [...this.#messages.values()].map(({ reply }) => reply);
  }

  /** They were not sent on after all: the next delivery counts. Gives where they can be given back. */
  drop(messages: readonly UnackedMessage[]): string[] {
    for (const { sequence } of messages) this.#messages.delete(sequence);
    return messages.map(({ reply }) => reply);
  }

  /** Forgets everything: the consumer is another one. */
  clear(): void {
    this.#groups.clear();
    this.#messages.clear();
  }
}
