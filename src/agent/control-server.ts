import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { ConfigError, TailraceError, toError } from "../errors.ts";
import type { AgentControl } from "./control.ts";

/**
 * Answers `tailrace` commands over STATE_DIR/control.sock (mode 0600: whoever may connect may act). JSON over HTTP; the
 * socket is removed at a graceful end, and one that a killed agent left behind is replaced, since the lock on the state
 * directory says that nobody listens on it.
 */
export class ControlServer {
  readonly #path: string;
  readonly #server: Server;

  constructor(path: string, control: AgentControl) {
    this.#path = path;
    this.#server = createServer({ requestTimeout: 30_000 }, getRequestListener(routes(control).fetch));
  }

  async listen(): Promise<void> {
    rmSync(this.#path, { force: true });
    // Between bind and chmod the umask decides; nobody but us may pass the 0700 directory anyway.
    const umask = process.umask(0o177);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject);
        this.#server.listen(this.#path, resolve);
      });
    } finally {
      process.umask(umask);
    }
    chmodSync(this.#path, 0o600);
    this.#server.unref();
  }

  async close(): Promise<void> {
    rmSync(this.#path, { force: true });
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

function routes(control: AgentControl): Hono {
  const app = new Hono();
  app.get("/status", (context) => context.json(control.status()));
  app.get("/checkpoints", async (context) => context.json(await control.checkpoints()));
  app.get("/why", async (context) => context.json(await control.why(context.req.query("path") ?? "")));
  app.post("/checkpoints/reset", async (context) => {
    const { path } = await context.req.json<{ path: string }>();
    return context.json(await control.resetPosition(path));
  });
  app.post("/dlq/replay", async (context) => {
    const { ids } = await context.req.json<{ ids: string[] }>();
    return context.json({ replayed: await control.replayDeadLetters(ids) });
  });
  app.post("/dlq/purge", async (context) => {
    const { ids } = await context.req.json<{ ids: string[] }>();
    return context.json({ purged: await control.purgeDeadLetters(ids) });
  });
  app.onError((error, context) => {
    const status = error instanceof ConfigError ? 400 : 500;
    const code = error instanceof TailraceError ? error.code : "TR_INTERNAL";
    return context.json({ code, message: toError(error).message }, status);
  });
  return app;
}
