import { Hono } from "hono";
import type { AgentControl } from "../agent/control.ts";
import type { Complaint } from "../agent/health.ts";
import type { EventSubscription } from "../telemetry/events.ts";
import type { MetricsSnapshot } from "../telemetry/metrics.ts";
import type { MetricsMoment } from "../telemetry/opentelemetry.ts";
import { DASHBOARD, DASHBOARD_POLICY } from "./dashboard.ts";
import { eventRoute } from "./event-route.ts";
import { type ApiContext, type GuardOptions, guard } from "./guard.ts";
import { openApi } from "./openapi.ts";
import { type ApiError, agentRoutes } from "./routes.ts";

/** What the API shows. Everything in it can be asked at any time, also while the agent starts. */
export interface ApiView {
  /** Why the process makes no progress; empty: it does. */
  stuck(): readonly Complaint[];
  /** What is not up; empty: ready. */
  notReady(): readonly Complaint[];
  /** All numbers of one instant. */
  metrics(): { readonly snapshot: MetricsSnapshot; readonly moment: MetricsMoment };
  /** Undefined while the agent starts or stops. */
  control(): AgentControl | undefined;
  /** Lifecycle events from now on. */
  events(): EventSubscription;
}

const PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** The whole API, as a function from requests to answers. */
export function apiApp(view: ApiView, access: GuardOptions): Hono<ApiContext> {
  const app = new Hono<ApiContext>();
  app.use(guard(access));
  app.get("/live", (context) => {
    const stuck = view.stuck();
    return stuck.length === 0 ? context.json({ live: true }) : context.json({ live: false, stuck }, 503);
  });
  app.get("/ready", (context) => {
    const notReady = view.notReady();
    if (notReady.length === 0) return context.json({ ready: true });
    return context.json({ ready: false, not_ready: notReady }, 503, { "Retry-After": "1" });
  });
  app.get("/metrics", async (context) => {
    // Loaded at the first scrape: it takes longer than everything else here together.
    const { prometheusText } = await import("../telemetry/opentelemetry.ts");
    const { snapshot, moment } = view.metrics();
    return context.body(prometheusText(snapshot, moment), 200, { "Content-Type": PROMETHEUS_TYPE });
  });
  app.get("/api/openapi.json", (context) => context.json(openApi(view.metrics().moment.version)));
  app.get(
    "/api/events",
    eventRoute(() => view.events()),
  );
  app.route(
    "/api",
    agentRoutes(() => view.control()),
  );
  app.get("/", (context) => context.html(DASHBOARD, 200, { "Content-Security-Policy": DASHBOARD_POLICY }));
  app.notFound((context) =>
    context.json({ code: "not_found", message: "there is nothing here" } satisfies ApiError, 404),
  );
  app.onError((error, context) =>
    context.json({ code: "TR_INTERNAL", message: error.message } satisfies ApiError, 500),
  );
  return app;
}
