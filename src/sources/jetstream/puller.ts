import type { Msg, NatsConnection } from "@nats-io/transport-node";
import type { NatsClient } from "../../nats/connection.ts";
import type { Clock } from "../../runtime/clock.ts";
import { type Arrival, arrivalOf } from "./arrival.ts";

/** How a pull ended. */
export type PullEnd =
  /** As many messages came as were asked for. */
  | "full"
  /** There are no more at the moment. */
  | "no_more"
  /** The next message is larger than what was asked for. */
  | "too_large"
  /** The server ended it, or said nothing: the consumer may be gone. */
  | "broken";

export interface PullRequest {
  /** Messages. */
  readonly batch: number;
  /** Subjects, headers and bodies together; undefined: no limit. */
  readonly maxBytes: number | undefined;
  /** How long to wait for messages; 0: only what is there now. */
  readonly expiresMs: number;
}

/** A pull that the server forgot (its leader died) ends by itself so much later. */
const PATIENCE_MS = 2000;

/**
 * Pull requests to one consumer over one connection. Each has a subscription of its own, since a message comes under its
 * own subject and not under that of the pull: what comes late, after a pull was given up, is nobody's and is delivered
 * again. Whoever pulls has room for what it asks for before it asks.
 */
export class Puller {
  readonly #connection: NatsConnection;
  readonly #client: NatsClient;
  readonly #clock: Clock;
  readonly #subject: string;
  readonly #underWay = new Set<(how: PullEnd) => void>();

  constructor(options: {
    connection: NatsConnection;
    client: NatsClient;
    clock: Clock;
    stream: string;
    consumer: string;
  }) {
    this.#connection = options.connection;
    this.#client = options.client;
    this.#clock = options.clock;
    this.#subject = `$JS.API.CONSUMER.MSG.NEXT.${options.stream}.${options.consumer}`;
  }

  /** Hands each message to `onArrival` as it comes; resolves when nothing more of this pull will. */
  async pull(request: PullRequest, onArrival: (arrival: Arrival) => void): Promise<PullEnd> {
    const { batch, maxBytes, expiresMs } = request;
    const inbox = this.#client.transport.createInbox();
    const ended = new Ending();
    let left = batch;
    const subscription = this.#connection.subscribe(inbox, {
      callback: (error, message) => {
        if (error !== null && error !== undefined) return ended.resolve("broken");
        const arrival = (message.headers?.code ?? 0) === 0 ? arrivalOf(message) : undefined;
        if (arrival === undefined) return ended.resolve(endOf(message));
        left -= 1;
        onArrival(arrival);
        if (left === 0) ended.resolve("full");
      },
    });
    const timer = this.#clock.after(expiresMs + PATIENCE_MS, () => ended.resolve("broken"));
    this.#underWay.add(ended.resolve);
    try {
      const body = {
        batch,
        ...(maxBytes === undefined ? {} : { max_bytes: maxBytes }),
        ...(expiresMs === 0 ? { no_wait: true } : { expires: expiresMs * 1e6 }),
      };
      this.#connection.publish(this.#subject, JSON.stringify(body), { reply: inbox });
      return await ended.promise;
    } finally {
      timer.cancel();
      subscription.unsubscribe();
      this.#underWay.delete(ended.resolve);
    }
  }

  /** Ends every pull; what still arrives is nobody's. */
  close(): void {
    for (const end of this.#underWay) end("broken");
  }
}

/** Resolves once; what is said after that counts no more. */
class Ending {
  resolve!: (how: PullEnd) => void;
  readonly promise = new Promise<PullEnd>((resolve) => {
    this.resolve = resolve;
  });
}

/** Status messages of pull requests: 404 no messages, 408 expired, 409 and a reason, 503 nobody there. */
function endOf({ headers }: Msg): PullEnd {
  const { code = 0, description = "" } = headers ?? {};
  if (code === 404 || code === 408) return "no_more";
  return code === 409 && /maxbytes/i.test(description) ? "too_large" : "broken";
}
