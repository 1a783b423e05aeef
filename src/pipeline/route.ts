import type { OverflowPolicy, Sender } from "../channel/index.ts";
import type { Batch } from "../record/batch.ts";
import type { Ending } from "../record/ending.ts";
import type { Backlog } from "./backlog.ts";
import type { Lane } from "./lane.ts";

/**
 * A batch on its way: which way it came says where it goes next and which lanes it settles. Routes form a tree from
 * each source: two ways to the same component are two routes into the same channel.
 */
export interface Routed {
  readonly batch: Batch;
  readonly route: Route;
}

export interface Route {
  readonly component: string;
  /** Input of the component; every route into it shares the channel, each with its own sender. */
  readonly input: Sender<Routed>;
  readonly overflow: OverflowPolicy;
  /** Of a sink: how far it is behind, and whether it may drop. */
  readonly backlog?: Backlog | undefined;
  /** Under `block`: after this long a waiting send is reported; 0: never. */
  readonly sendTimeoutMs: number;
  /** All lanes that end below here. */
  readonly lanes: readonly Lane[];
  readonly next: readonly Route[];
}

/** Ends a batch on all lanes below a route, and gives its memory back. */
export function endBatch(batch: Batch, lanes: readonly Lane[], ending: Ending, records = batch.count): void {
  for (const lane of lanes) {
    lane.end(batch.origin, batch.ranges);
    lane.count(ending, records);
  }
  batch.memory.release();
}

/** Every route into a component at or below the given ones. */
export function routesInto(component: string, routes: readonly Route[]): Route[] {
  return routes.flatMap((route) => [
    ...(route.component === component ? [route] : []),
    ...routesInto(component, route.next),
  ]);
}
