import type { NatsConnection } from "@nats-io/transport-node";

/**
 * Closes a connection, also one whose server is gone; never rejects.
 *
 * The client sends its last commands (the end of a subscription) a microtask later, and on closing takes its listeners
 * off the socket. Where the server had hung up in between, the failed write found nobody who listens, and Node ends the
 * process for that. So what was said last is let out first.
 */
export async function disconnect(connection: NatsConnection): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  await connection.close().catch(() => undefined);
}
