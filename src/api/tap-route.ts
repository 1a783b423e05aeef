import type { Handler } from "hono";
import { stream } from "hono/streaming";
import type { AgentControl } from "../agent/control.ts";
import type { ApiError } from "./routes.ts";

/**
 * Live records of a component, for the control socket only: they are other people's data, and whoever may open that
 * socket may read the logs as well.
 *
 * ```
 * #0             there is a tap now; nothing was left out yet
 * {"timestamp":  an event
 * #1234          so many records were left out up to here
 * ```
 */
export function tapRoute(control: () => AgentControl): Handler {
  return (context) => {
    const component = context.req.query("component") ?? "";
    const text = context.req.query("limit");
    const limit = text === undefined ? Number.POSITIVE_INFINITY : Number(text);
    if (!(limit >= 1) || (text !== undefined && !Number.isSafeInteger(limit)))
      return context.json(
        { code: "bad_request", message: "limit is a whole number, at least 1" } satisfies ApiError,
        400,
      );
    const session = control().tap(component, limit);
    if (session === "unknown")
      return context.json(
        { code: "unknown_component", message: `there is no component "${component}"` } satisfies ApiError,
        404,
      );
    if (session === "busy")
      return context.json({ code: "too_many", message: "too many taps at once; end one" } satisfies ApiError, 503);
    return stream(context, async (body) => {
      const gone = new AbortController();
      body.onAbort(() => {
        gone.abort();
        session.close();
      });
      using tapped = session;
      await body.write("#0\n");
      for (let told = 0; ; ) {
        const texts = await tapped.next(gone);
        if (texts !== undefined) await body.write(texts.map((event) => `${event}\n`).join(""));
        if (tapped.skipped > told) {
          told = tapped.skipped;
          await body.write(`#${told}\n`);
        }
        if (texts === undefined) return;
      }
    });
  };
}
