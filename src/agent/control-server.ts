import { rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { getRequestListener } from "@hono/node-server";
import { agentRoutes } from "../api/routes.ts";
import { tapRoute } from "../api/tap-route.ts";
import { listenPrivately } from "../runtime/listen-privately.ts";
import type { AgentControl } from "./control.ts";

/** Connections at once, taps among them; what comes beyond is closed at once. */
const MAX_CONNECTIONS = 128;
/** How long answers under way may take at the end. */
const LAST_WORDS_MS = 500;

/**
 * Answers `tailrace` commands over STATE_DIR/control.sock (mode 0600: whoever may connect may act), with the routes that
 * the API has below `/api`, and with `/tap`. The socket is removed at a graceful end, and one that a killed agent left behind is replaced,
 * since the lock on the state directory says that nobody listens on it.
 */
export class ControlServer {
  readonly #path: string;
  readonly #server: Server;

  constructor(path: string, control: AgentControl) {
    this.#path = path;
    const routes = agentRoutes(() => control);
    routes.get(
      "/tap",
      tapRoute(() => control),
    );
    this.#server = createServer({ requestTimeout: 30_000 }, getRequestListener(routes.fetch));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  async listen(): Promise<void> {
    rmSync(this.#path, { force: true });
    await listenPrivately(this.#server, this.#path);
    this.#server.unref();
  }

  async close(): Promise<void> {
    rmSync(this.#path, { force: true });
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    // A tap still shows what it had taken.
    const patience = setTimeout(() => this.#server.closeAllConnections(), LAST_WORDS_MS);
    await closed;
    clearTimeout(patience);
  }
}
