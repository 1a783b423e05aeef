import type { PgSession } from "./session.ts";

/** Whether the database has PGMQ, as an extension or as plain SQL, with the functions on many messages at once. */
export async function hasPgmq(session: PgSession): Promise<boolean> {
  const { rows } = await session.query(
    "SELECT to_regprocedure('pgmq.send_batch(text,jsonb[])') IS NOT NULL AND " +
      "to_regprocedure('pgmq.archive(text,bigint[])') IS NOT NULL",
  );
  return rows[0]![0] === "t";
}

/**
 * When a queue was made, in microseconds since the epoch: of two queues of one name the one that came later is another
 * queue, with message ids that begin again at 1. Undefined: there is no such queue.
 */
export async function queueCreatedAt(session: PgSession, queue: string): Promise<string | undefined> {
  const { rows } = await session.query(
    "SELECT (extract(epoch FROM created_at) * 1000000)::bigint FROM pgmq.meta WHERE queue_name = $1",
    [queue],
  );
  return rows[0]?.[0] ?? undefined;
}
