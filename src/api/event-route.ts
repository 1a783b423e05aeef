import type { Handler } from "hono";
import { streamSSE } from "hono/streaming";
import { untilWoken } from "../runtime/until-woken.ts";
import type { EventSubscription } from "../telemetry/events.ts";
import type { ApiError } from "./routes.ts";

const MAX_LISTENERS = 16;

/** A listener that is gone without a word is found out by the next of these. */
const PING_MS = 15_000;

/** One that takes nothing for so long is hung up on, so that it does not hold a place for ever. */
const PATIENCE_MS = 30_000;

/**
 * Lifecycle events as server-sent events (HTML Living Standard, section 9.2): `event` is the name, `id` the number,
 * `data` the whole event as JSON. A listener that is too slow gets `events_missed` with their number where some are
 * missing. There is no history: it begins with what happens next.
 */
export function eventRoute(subscribe: () => EventSubscription): Handler {
  let listeners = 0;
  return (context) => {
    if (listeners >= MAX_LISTENERS) {
      const message = `${MAX_LISTENERS} listeners are the most`;
      return context.json({ code: "too_many", message } satisfies ApiError, 503, { "Retry-After": "5" });
    }
    listeners += 1;
    const events = subscribe();
    return streamSSE(context, async (stream) => {
      const gone = new AbortController();
      const { signal } = gone;
      stream.onAbort(() => gone.abort());
      const write = async (writing: Promise<unknown>): Promise<void> => {
        const patience = setTimeout(() => gone.abort(), PATIENCE_MS);
        patience.unref();
        await untilWoken(signal, (wake) => void writing.then(wake, wake));
        clearTimeout(patience);
      };
      const ping = setInterval(() => void write(stream.write(": ping\n\n")), PING_MS);
      ping.unref();
      try {
        // Sends the headers, so that the listener knows that it listens.
        await write(stream.write(": listening\n\n"));
        for (let event = await events.recv({ signal }); event !== undefined; event = await events.recv({ signal }))
          await write(stream.writeSSE({ id: String(event.number), event: event.event, data: JSON.stringify(event) }));
      } finally {
        clearInterval(ping);
        events.close();
        listeners -= 1;
        if (signal.aborted) stream.abort();
      }
    });
  };
}
