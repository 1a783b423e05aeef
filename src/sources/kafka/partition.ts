import { type Origin, recordIdPrefix } from "../../record/origin.ts";

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
  readonly #stop = new AbortController();

  constructor(source: string, topic: string, partition: number, offset: number, groupOffset: number) {
    this.topic = topic;
    this.partition = partition;
    const key = partitionKey(topic, partition);
    this.origin = {
      source,
      key,
      kind: "replayable",
      recordIdPrefix: recordIdPrefix(`${source}\0${key}`, 0),
      file: undefined,
    };
    this.offset = offset;
    this.sentEnd = offset;
    this.groupOffset = groupOffset;
  }

  get key(): string {
    return this.origin.key;
  }

  /** Aborts when the partition is given up: nothing more of it is read or sent. */
  get given(): AbortSignal {
    return this.#stop.signal;
  }

  give(): void {
    this.#stop.abort();
  }
}

/** Key of the origin. */
export const partitionKey = (topic: string, partition: number): string => `${topic}/${partition}`;
