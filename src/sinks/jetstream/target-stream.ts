import type { JetStreamManager, StreamInfo } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { StageError, toError } from "../../errors.ts";
import { NATS_CODES, type NatsConnector } from "../../nats/connection.ts";
import { parsePlace, RECORD_HEADER, type RecordPlace } from "./record-header.ts";

export interface TargetOptions {
  readonly stream: string;
  readonly subject: string;
  readonly create: boolean;
  readonly exactly_once: boolean;
  readonly timeout_ms: number;
}

/** One message on the sink's subject. */
export interface Stored {
  readonly sequence: number;
  /** Undefined: none of ours wrote it. */
  readonly place: RecordPlace | undefined;
}

/** What the stream is at the moment. */
export interface StreamState {
  /** When it was made, as the server says it: another one of the same name has another time. */
  readonly created: string;
  readonly firstSequence: number;
  readonly lastSequence: number;
  /** For so long it knows the ids of messages. */
  readonly duplicateWindowMs: number;
}

/** Messages that are asked for at a time when the subject is read back; their headers only. */
const SCAN_BATCH = 500;

/** A consumer that nobody asks any more goes by itself, nanoseconds. */
const IDLE_SCAN_NS = 60e9;

/** The stream that a sink publishes into, over one connection. */
export class TargetStream {
  readonly #connector: NatsConnector;
  readonly #connection: NatsConnection;
  readonly #manager: JetStreamManager;
  readonly #options: TargetOptions;

  private constructor(
    connector: NatsConnector,
    connection: NatsConnection,
    manager: JetStreamManager,
    options: TargetOptions,
  ) {
    this.#connector = connector;
    this.#connection = connection;
    this.#manager = manager;
    this.#options = options;
  }

  static async of(connector: NatsConnector, connection: NatsConnection, options: TargetOptions): Promise<TargetStream> {
    return new TargetStream(connector, connection, await connector.manager(connection), options);
  }

  /**
   * Its state; it is made if it may be.
   * @throws StageError `TR_STAGE_OPEN`: it is there and cannot be the target.
   */
  async state(component: string): Promise<StreamState> {
    const info = await this.#find();
    this.#check(info, component);
    return {
      created: info.created,
      firstSequence: info.state.first_seq,
      lastSequence: info.state.last_seq,
      duplicateWindowMs: info.config.duplicate_window / 1e6,
    };
  }

  async #find(): Promise<StreamInfo> {
    const { stream, subject } = this.#options;
    try {
      return await this.#manager.streams.info(stream);
    } catch (thrown) {
      if (this.#connector.codeOf(thrown) !== NATS_CODES.streamNotFound) throw thrown;
      if (!this.#options.create) throw new Error(`there is no stream ${stream}: make it, or set create = true`);
    }
    await this.#manager.streams.add({ name: stream, subjects: [subject] });
    return await this.#manager.streams.info(stream);
  }

  #check({ config }: StreamInfo, component: string): void {
    const { stream, subject, exactly_once: isExact } = this.#options;
    if (!config.subjects?.some((pattern) => takes(pattern, subject))) {
      const taken = config.subjects?.join(", ") || "none";
      throw new StageError(
        "TR_STAGE_OPEN",
        component,
        `stream ${stream} does not take the subject ${subject} (it takes: ${taken}); add the subject to the stream, or name another`,
      );
    }
    if (isExact && config.retention !== "limits") {
      throw new StageError(
        "TR_STAGE_OPEN",
        component,
        `stream ${stream} has ${config.retention} retention: it forgets what was consumed, so that a restart could not read back what it holds. ` +
          "Use a stream with limits retention, or set exactly_once = false",
      );
    }
    if (config.no_ack === true) {
      throw new StageError("TR_STAGE_OPEN", component, `stream ${stream} has no_ack: it never says what it stored`);
    }
  }

  /** The last message on the subject; undefined: there is none. */
  async last(): Promise<Stored | undefined> {
    const { stream, subject } = this.#options;
    const message = await this.#manager.streams.getMessage(stream, { last_by_subj: subject });
    if (message === null) return undefined;
    return { sequence: message.seq, place: parsePlace(message.header.get(RECORD_HEADER)) };
  }

  /** The messages on the subject behind sequence `after`, up to `last`, in order; their headers only. */
  async *scan(after: number, last: number): AsyncGenerator<Stored> {
    const { stream, subject, timeout_ms: timeoutMs } = this.#options;
    if (after >= last) return;
    const { jetstream, AckPolicy, DeliverPolicy } = this.#connector.client.jetstream;
    const { name } = await this.#manager.consumers.add(stream, {
      filter_subject: subject,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: after + 1,
      headers_only: true,
      ack_policy: AckPolicy.None,
      mem_storage: true,
      inactive_threshold: IDLE_SCAN_NS,
    });
    const consumer = await jetstream(this.#connection, { timeout: timeoutMs }).consumers.get(stream, name);
    try {
      for (let sequence = after; sequence < last; ) {
        const messages = await consumer.fetch({ max_messages: SCAN_BATCH, expires: Math.max(1000, timeoutMs) });
        const before = sequence;
        for await (const message of messages) {
          sequence = message.seq;
          if (sequence > last) break;
          yield { sequence, place: parsePlace(message.headers?.get(RECORD_HEADER) ?? "") };
          if (sequence >= last) break;
        }
        if (sequence === before) throw new Error(`stream ${stream} did not hand out what it holds behind ${sequence}`);
      }
    } finally {
      await consumer.delete().catch((thrown: unknown) => toError(thrown));
    }
  }
}

/** Whether a subject of a stream (with `*` for one part, `>` for all further ones) takes `subject`. */
function takes(pattern: string, subject: string): boolean {
  const parts = subject.split(".");
  const wanted = pattern.split(".");
  for (const [index, part] of wanted.entries()) {
    if (part === ">") return parts.length > index;
    if (index >= parts.length || (part !== "*" && part !== parts[index])) return false;
  }
  return parts.length === wanted.length;
}
