import type { Msg } from "@nats-io/transport-node";

/** One delivery of a message of a stream, as its reply subject tells it. */
export interface Arrival {
  /** In the stream. */
  readonly sequence: number;
  /** Counts all deliveries of the consumer. */
  readonly consumerSequence: number;
  /** 1 for the first. */
  readonly deliveries: number;
  /** Where acknowledgements of this delivery go. */
  readonly reply: string;
  readonly subject: string;
  readonly body: Uint8Array;
}

/**
 * Reply subjects (NATS ADR-15): `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<time>.<pending>`,
 * and with `<domain>.<account hash>` in front of the stream where there are domains. Undefined: no message of a stream.
 */
export function arrivalOf(message: Msg): Arrival | undefined {
  const reply = message.reply ?? "";
  const parts = reply.split(".");
  if (parts[0] !== "$JS" || parts[1] !== "ACK" || parts.length < 9) return undefined;
  const at = parts.length === 9 ? 4 : 6;
  return {
    deliveries: Number(parts[at]),
    sequence: Number(parts[at + 1]),
    consumerSequence: Number(parts[at + 2]),
    reply,
    subject: message.subject,
    body: message.data,
  };
}
