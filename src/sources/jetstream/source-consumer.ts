import type { ConsumerInfo, JetStreamManager, StreamInfo } from "@nats-io/jetstream";
import { StageError } from "../../errors.ts";
import { NATS_CODES, type NatsConnector } from "../../nats/connection.ts";
import type { Clock } from "../../runtime/clock.ts";

export interface ConsumerOptions {
  readonly stream: string;
  readonly consumer: string;
  readonly filter_subject?: string | undefined;
  readonly ack_wait_ms: number;
  readonly max_ack_pending: number;
}

/** So short an `ack_wait` is what a restart sets for a moment (`handOutAgain`); one that is found was left behind. */
const MOMENT_NS = 1e6;

/** The server looks at what was not acknowledged in time within 100 ms of a change of `ack_wait`. */
const MOMENT_MS = 300;

/** The durable pull consumer that the source reads through. */
export class SourceConsumer {
  readonly #manager: JetStreamManager;
  readonly #connector: NatsConnector;
  readonly #options: ConsumerOptions;
  readonly #component: string;

  constructor(connector: NatsConnector, manager: JetStreamManager, options: ConsumerOptions, component: string) {
    this.#connector = connector;
    this.#manager = manager;
    this.#options = options;
    this.#component = component;
  }

  /** Rejects while there is no such stream. */
  async stream(): Promise<StreamInfo> {
    const { stream } = this.#options;
    try {
      return await this.#manager.streams.info(stream);
    } catch (thrown) {
      if (this.#connector.codeOf(thrown) !== NATS_CODES.streamNotFound) throw thrown;
      throw new Error(`there is no stream ${stream}`);
    }
  }

  info(): Promise<ConsumerInfo> {
    return this.#manager.consumers.info(this.#options.stream, this.#options.consumer);
  }

  /**
   * The consumer as it is, or a new one that starts at sequence `start`.
   * @throws StageError: it is there and of no use.
   */
  async find(start: number): Promise<ConsumerInfo> {
    const { stream, consumer } = this.#options;
    try {
      const info = await this.info();
      this.#check(info);
      return info.config.ack_wait === MOMENT_NS ? await this.#setAckWait(info, this.#options.ack_wait_ms * 1e6) : info;
    } catch (thrown) {
      if (this.#connector.codeOf(thrown) !== NATS_CODES.consumerNotFound) throw thrown;
    }
    const { AckPolicy, DeliverPolicy } = this.#connector.client.jetstream;
    const { filter_subject: filter, ack_wait_ms: ackWaitMs, max_ack_pending: maxAckPending } = this.#options;
    return await this.#manager.consumers.add(stream, {
      durable_name: consumer,
      ack_policy: AckPolicy.Explicit,
      ack_wait: ackWaitMs * 1e6,
      max_ack_pending: maxAckPending,
      ...(start > 1
        ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: start }
        : { deliver_policy: DeliverPolicy.All }),
      ...(filter === undefined ? {} : { filter_subject: filter }),
    });
  }

  #check({ config }: ConsumerInfo): void {
    const { stream, consumer, filter_subject: filter } = this.#options;
    const problem =
      config.deliver_subject !== undefined
        ? "is a push consumer; give a pull consumer, or the name of one that is to be made"
        : config.ack_policy !== this.#connector.client.jetstream.AckPolicy.Explicit
          ? `has ack_policy ${config.ack_policy}; it must be explicit, since what is in flight is acknowledged one by one`
          : config.max_deliver === 1
            ? "has max_deliver 1: what was in flight at a crash would never come again"
            : filter !== undefined && config.filter_subject !== filter
              ? `filters by ${config.filter_subject ?? "nothing"} and not by ${filter}; change filter_subject, or name another consumer`
              : undefined;
    if (problem === undefined) return;
    throw new StageError("TR_STAGE_OPEN", this.#component, `consumer ${consumer} of stream ${stream} ${problem}`);
  }

  /**
   * Makes the server hand out at once, and in order, what the last run of this agent had in flight: else that would come
   * when `ack_wait` is over, behind what is newer. Only where nobody else pulls: others' messages would come twice.
   */
  async handOutAgain(info: ConsumerInfo, clock: Clock, signal: AbortSignal): Promise<void> {
    const { ack_wait: ackWait = this.#options.ack_wait_ms * 1e6 } = info.config;
    await this.#setAckWait(info, MOMENT_NS);
    await clock.sleep(MOMENT_MS, { signal });
    await this.#setAckWait(info, ackWait);
  }

  #setAckWait({ config }: ConsumerInfo, ackWait: number): Promise<ConsumerInfo> {
    const { stream, consumer } = this.#options;
    return this.#manager.consumers.update(stream, consumer, { ...config, ack_wait: ackWait });
  }
}
