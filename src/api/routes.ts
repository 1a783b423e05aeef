import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { z } from "zod";
import type { AgentControl } from "../agent/control.ts";
import { ChannelFullError, ConfigError, type ErrorCode, TailraceError, toError } from "../errors.ts";
import { commandSchema, MAX_PATH_CHARACTERS } from "./commands.ts";

/** What an answer that is no success says. */
export interface ApiError {
  /** A `TR_*` code, or what kind of refusal it is. */
  readonly code: string;
  readonly message: string;
}

/** What went wrong -> what that is to a client; anything else is 500. */
const STATUS: { readonly [code in ErrorCode]?: 400 | 502 | 503 } = {
  TR_USAGE: 400,
  TR_STATE_REFUSED: 400,
  TR_STAGE_OPEN: 502,
  TR_CHANNEL_CLOSED: 503,
  TR_COMMIT_FAILED: 503,
};

/** Of a request's body; ids of dead letters are the longest thing that anybody sends. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

const MAX_LETTERS = 1000;
const DEFAULT_LETTERS = 100;

const idsBody = z.strictObject({ ids: z.array(z.string().min(1).max(64)).max(50_000) });

/** Raised for a request that is wrong; its message goes to the client. */
class BadRequest extends Error {}

/**
 * What may be asked of a running agent, and done to it: the same on its control socket and below `/api`. `control` gives
 * undefined while the agent starts: 503.
 */
export function agentRoutes(control: () => AgentControl | undefined): Hono {
  const app = new Hono();
  const agent = (): AgentControl => {
    const running = control();
    if (running === undefined) throw new NotRunning("the agent is starting or stopping; ask again");
    return running;
  };
  app.use(
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: (context) =>
        context.json({ code: "too_large", message: `a body may have ${MAX_BODY_BYTES} bytes` } satisfies ApiError, 413),
    }),
  );
  app.get("/status", (context) => context.json(agent().status()));
  app.get("/channels", (context) => context.json(agent().channels()));
  app.get("/audit", (context) => context.json({ edges: agent().ledger() }));
  app.get("/checkpoints", async (context) => context.json(await agent().checkpoints()));
  app.get("/why", async (context) => {
    const path = context.req.query("path");
    if (path === undefined || path === "" || path.length > MAX_PATH_CHARACTERS)
      throw new BadRequest("give the path of a file: ?path=/var/log/app.log");
    return context.json(await agent().why(path));
  });
  app.get("/dead-letters", async (context) => {
    const text = context.req.query("limit") ?? String(DEFAULT_LETTERS);
    const limit = /^\d{1,4}$/.test(text) ? Number(text) : 0;
    if (limit < 1 || limit > MAX_LETTERS) throw new BadRequest(`limit is a whole number from 1 to ${MAX_LETTERS}`);
    const letters = await agent().deadLetters(limit);
    return context.json(
      letters.map(({ id, component, reason, attempts, time, event }) => ({
        id,
        component,
        reason,
        attempts,
        time,
        event,
      })),
    );
  });
  app.post("/commands", async (context) => {
    const command = parsed(commandSchema, await context.req.text());
    return context.json(await agent().command(command));
  });
  app.post("/dlq/replay", async (context) => {
    const { ids } = parsed(idsBody, await context.req.text());
    return context.json({ replayed: await agent().replayDeadLetters(ids) });
  });
  app.post("/dlq/purge", async (context) => {
    const { ids } = parsed(idsBody, await context.req.text());
    return context.json({ purged: await agent().purgeDeadLetters(ids) });
  });
  app.notFound((context) =>
    context.json({ code: "not_found", message: "there is nothing here" } satisfies ApiError, 404),
  );
  app.onError((error, context) => {
    if (error instanceof BadRequest || error instanceof ConfigError)
      return context.json({ code: "bad_request", message: error.message } satisfies ApiError, 400);
    if (error instanceof NotRunning)
      return context.json({ code: "not_running", message: error.message } satisfies ApiError, 503, {
        "Retry-After": "1",
      });
    // Nothing is wrong with the request; the same may be taken a moment later.
    if (error instanceof ChannelFullError)
      return context.json({ code: error.code, message: "too many commands wait already" } satisfies ApiError, 503, {
        "Retry-After": "1",
      });
    const code = error instanceof TailraceError ? error.code : "TR_INTERNAL";
    return context.json({ code, message: toError(error).message } satisfies ApiError, STATUS[code] ?? 500);
  });
  return app;
}

class NotRunning extends Error {}

function parsed<Body>(schema: z.ZodType<Body>, text: string): Body {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BadRequest("the body is no JSON");
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new BadRequest(`${issue.path.join(".") || "the body"}: ${issue.message}`);
}
