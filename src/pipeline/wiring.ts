import type { Sender } from "../channel/index.ts";
import type { ChannelSize } from "../config/plan.ts";
import type { Backlog } from "./backlog.ts";
import { laneId, type Node, type Ways, wayOf } from "./graph.ts";
import type { Lane } from "./lane.ts";
import type { Route, Routed } from "./route.ts";

/** Where the routes of a source lead: into which channels, and which lanes they end in. */
export interface Wires {
  readonly routes: readonly Route[];
  readonly lanes: readonly Lane[];
}

export interface WiringOptions {
  readonly source: Node;
  readonly ways: Ways;
  /** A sender to clone, and what its channel does when it is full. */
  inputOf(component: string): {
    readonly sender: Sender<Routed>;
    readonly size: ChannelSize;
    readonly backlog: Backlog | undefined;
  };
  laneOf(lane: { readonly sink: string; readonly way: string; readonly id: string }): Lane;
}

/** Every way from one source to every sink, as a tree of routes; each leaf is a lane. */
export function wire({ source, ways, inputOf, laneOf }: WiringOptions): Wires {
  const lanes: Lane[] = [];
  const routeInto = (node: Node, before: readonly string[]): Route => {
    const next = node.consumers.map((consumer) => routeInto(consumer, [...before, node.name]));
    const own: Lane[] = [];
    if (node.kind === "sink") {
      const way = wayOf(before);
      own.push(laneOf({ sink: node.name, way, id: laneId(node.name, way, ways.get(node.name)!.get(source.name)!) }));
      lanes.push(...own);
    }
    const { sender, size, backlog } = inputOf(node.name);
    return {
      component: node.name,
      input: sender.clone(),
      overflow: size.overflow,
      backlog,
      sendTimeoutMs: size.sendTimeoutMs,
      lanes: [...own, ...next.flatMap((route) => route.lanes)],
      next,
    };
  };
  return { routes: source.consumers.map((consumer) => routeInto(consumer, [])), lanes };
}

/** Closes every sender of a tree of routes. A component whose last one has gone ends when it has drained. */
export function unwire(routes: readonly Route[]): void {
  for (const route of routes) {
    route.input.close();
    unwire(route.next);
  }
}
