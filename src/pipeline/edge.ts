import { ChannelClosedError, ChannelFullError, StageError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Backlog } from "./backlog.ts";
import { isCovered, withoutCovered } from "./lane.ts";
import { endBatch, type Route, type Routed } from "./route.ts";

/**
 * Sends a batch down all routes, one after the other: the slowest branch holds the source back once its channel is
 * full. The batch is shared by reference, each branch owns one reference to its memory. Takes over the caller's reference.
 * @throws StageError when a channel whose policy is `error` refuses: a supervised error that names the component.
 */
export async function forward(batch: Batch, routes: readonly Route[], log: Logger): Promise<void> {
  for (let extra = 1; extra < routes.length; extra += 1) batch.memory.retain();
  for (const route of routes) {
    if (route.backlog?.mayDrop && !batch.origin.mustArrive) sendOrDrop(batch, route, route.backlog);
    else await sendInto(route, { batch, route }, log);
  }
}

/**
 * Into a sink that is not required: a copy at once, or, where it is too far behind, not at all. It never waits. What has
 * ended there before is not sent: dropped a second time, it would count a second time.
 */
function sendOrDrop(whole: Batch, route: Route, backlog: Backlog): void {
  const { input } = route;
  const [lane] = route.lanes;
  if (input.isClosed || isCovered(lane!, whole)) {
    whole.memory.release();
    return;
  }
  const batch = withoutCovered(whole, lane!);
  if (!backlog.hasRoom(batch.byteLength)) {
    input.drop({ batch, route });
    return;
  }
  const routed = { batch: backlog.take(batch), route };
  if (input.trySend(routed) === "full") input.drop(routed);
}

async function sendInto(route: Route, routed: Routed, log: Logger): Promise<void> {
  for (;;) {
    try {
      return await route.input.send(routed);
    } catch (error) {
      if (error instanceof ChannelClosedError) {
        // The component is gone: what was for it stays unsettled and is read again at the next start.
        routed.batch.memory.release();
        return;
      }
      if (!(error instanceof ChannelFullError)) throw error;
      if (route.overflow === "error") {
        throw new StageError(
          "TR_CHANNEL_FULL",
          route.component,
          "its input channel is full and its overflow policy is `error`",
          { cause: error },
        );
      }
      log.warn(
        { component: route.component, channel: "input" },
        `${route.component} has not taken a batch for ${route.sendTimeoutMs} ms; still waiting`,
      );
    }
  }
}

/** What a dropping policy (or a closing receiver) does to a batch in a component's input. */
export function dropFromInput(routed: Routed, reason: "policy" | "closed"): void {
  if (reason === "policy") endBatch(routed.batch, routed.route.lanes, "dropped");
  // Left behind by a receiver that closed: not delivered, read again.
  else routed.batch.memory.release();
}
