import { z } from "zod";
import { commandSchema } from "./commands.ts";

/** One row per path and method; the document is made from them. */
interface Operation {
  readonly path: string;
  readonly method: "get" | "post";
  readonly summary: string;
  readonly query?: { readonly [name: string]: { readonly description: string; readonly schema: object } };
  readonly body?: object;
  /** Status -> what it means; 200 is a JSON body unless `type` says otherwise. */
  readonly answers: { readonly [status: string]: string };
  readonly type?: string;
}

/** Paths that ask the agent itself, which must have started. */
const ASKS_AGENT = /^\/api\/(?!events$|openapi\.json$)/;
const STARTING = "The agent is starting or stopping.";
const UNEXPECTED = "An unexpected error; the body says which.";

const TEXT = { type: "string" } as const;
const IDS = {
  type: "object",
  required: ["ids"],
  additionalProperties: false,
  properties: { ids: { type: "array", items: TEXT, maxItems: 50_000 } },
};

const OPERATIONS: readonly Operation[] = [
  {
    path: "/live",
    method: "get",
    summary: "Whether the process makes progress.",
    answers: { 200: "It does.", 503: "It hangs; the body names what." },
  },
  {
    path: "/ready",
    method: "get",
    summary: "Whether sources and sinks are up.",
    answers: { 200: "They are.", 503: "The body names what is not; see Retry-After." },
  },
  {
    path: "/metrics",
    method: "get",
    summary: "All metrics of one instant, in the text format of Prometheus.",
    answers: { 200: "The metrics." },
    type: "text/plain",
  },
  { path: "/", method: "get", summary: "The dashboard.", answers: { 200: "A page." }, type: "text/html" },
  {
    path: "/api/openapi.json",
    method: "get",
    summary: "This description.",
    answers: { 200: "OpenAPI 3.1." },
  },
  {
    path: "/api/status",
    method: "get",
    summary: "What the agent is doing.",
    answers: { 200: "Counts, lag, troubles." },
  },
  {
    path: "/api/channels",
    method: "get",
    summary: "Every channel: how full it is, and what went through it.",
    answers: { 200: "One entry per channel." },
  },
  {
    path: "/api/audit",
    method: "get",
    summary: "The ledger: what was sent, received, dropped and is in channel, in records, edge by edge.",
    answers: { 200: "One entry per edge." },
  },
  {
    path: "/api/checkpoints",
    method: "get",
    summary: "Where every file stands at every sink, in bytes.",
    answers: { 200: "One entry per file and sink." },
  },
  {
    path: "/api/why",
    method: "get",
    summary: "Why a file is, or is not, being read.",
    query: { path: { description: "Absolute path.", schema: TEXT } },
    answers: { 200: "One entry per source.", 400: "No path was given." },
  },
  {
    path: "/api/dead-letters",
    method: "get",
    summary: "Records that were refused for good, oldest first.",
    query: {
      limit: { description: "At most so many.", schema: { type: "integer", minimum: 1, maximum: 1000, default: 100 } },
    },
    answers: { 200: "One entry per record.", 400: "The limit is none." },
  },
  {
    path: "/api/events",
    method: "get",
    summary: "Lifecycle events as they happen, as server-sent events.",
    answers: { 200: "A stream without an end.", 503: "Too many listeners." },
    type: "text/event-stream",
  },
  {
    path: "/api/commands",
    method: "post",
    summary:
      "Does something to the agent, after what it was told before: reload, pause, resume, rotate, flush, drain, stop, reset_position, set_log_level.",
    body: z.toJSONSchema(commandSchema, { target: "draft-2020-12" }),
    answers: {
      200: "It is done; the body says what.",
      400: "The body is wrong, so is the configuration to reload, or this agent has nothing to do it with.",
      401: "The token is missing.",
      502: "A stage of the configuration to reload cannot be opened (its target is out of reach, say); everything runs as before.",
      503: "Too many commands wait already (see Retry-After), or what has ended cannot be committed.",
    },
  },
  {
    path: "/api/dlq/replay",
    method: "post",
    summary: "Sends dead letters to their component again.",
    body: IDS,
    answers: { 200: "How many there were.", 400: "The body is wrong.", 401: "The token is missing." },
  },
  {
    path: "/api/dlq/purge",
    method: "post",
    summary: "Deletes dead letters for good.",
    body: IDS,
    answers: { 200: "How many there were.", 400: "The body is wrong.", 401: "The token is missing." },
  },
];

/** What may become of any question to the agent itself. */
const withAgent = (answers: Operation["answers"]): Operation["answers"] => ({
  ...answers,
  500: UNEXPECTED,
  503: [STARTING, answers["503"]].filter((text) => text !== undefined).join(" "),
});

/** The API in the words of OpenAPI 3.1. */
export function openApi(version: string): object {
  const paths: { [path: string]: { [method: string]: object } } = {};
  for (const { path, method, summary, query, body, answers, type = "application/json" } of OPERATIONS) {
    paths[path] ??= {};
    paths[path][method] = {
      summary,
      ...(query === undefined
        ? {}
        : {
            parameters: Object.entries(query).map(([name, { description, schema }]) => ({
              name,
              in: "query",
              description,
              schema,
            })),
          }),
      ...(body === undefined
        ? {}
        : { requestBody: { required: true, content: { "application/json": { schema: body } } } }),
      ...(method === "post" ? { security: [{ token: [] }] } : {}),
      responses: Object.fromEntries(
        Object.entries(ASKS_AGENT.test(path) ? withAgent(answers) : answers).map(([status, description]) => [
          status,
          status === "200" ? { description, content: { [type]: {} } } : { description },
        ]),
      ),
    };
  }
  return {
    openapi: "3.1.0",
    info: { title: "Tailrace", version, description: "Off loopback, everything needs the token." },
    paths,
    components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
  };
}
