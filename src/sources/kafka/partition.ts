import { type Origin, streamOrigin } from "../../record/origin.ts";

/** A partition that the group has given to us. */
export class OwnedPartition {
  readonly topic: string;
  readonly partition: number;
  readonly origin: Origin;
  /** Where to read on. */
  offset: number;
  /** Behind the last that was sent into the pipeline. */
  sentEnd: number;
  /** What the group knows to be done. */
  groupOffset: number;
  /** With `once`: where its end was at the start. */
  onceEnd: number | undefined;
  /** Bytes that are not read, by the records that were. */
  lagBytes = 0;
  /** Aborts when the partition is given up, or `until` does: nothing more of it is read or sent. */
  readonly given: AbortSignal;
  readonly #stop = new AbortController();

  constructor(
    source: string,
    { topic, partition }: { readonly topic: string; readonly partition: number },
    at: { readonly offset: number; readonly groupOffset: number; readonly until: AbortSignal },
  ) {
    const { offset, groupOffset, until } = at;
    this.topic = topic;
    this.partition = partition;
    this.given = AbortSignal.any([until, this.#stop.signal]);
    this.origin = streamOrigin("replayable", source, partitionKey(topic, partition));
    this.offset = offset;
    this.sentEnd = offset;
    this.groupOffset = groupOffset;
  }

  get key(): string {
    return this.origin.key;
  }

  give(): void {
    this.#stop.abort();
  }
}

/** Key of the origin. */
export const partitionKey = (topic: string, partition: number): string => `${topic}/${partition}`;
