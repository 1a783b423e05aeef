import { once } from "node:events";
import type { Server } from "node:net";
import { errnoOf } from "../errors.ts";

/** Tries of a tenth of a second each: somebody's outgoing connection may have taken the port meanwhile. */
const TRIES = 100;

/**
 * Resolves when `server` listens on the loopback.
 *
 * @param port 0: any; else the one that it has had before, and has again as soon as nobody uses it.
 */
export async function listening(server: Server, port: number): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      server.listen(port, "127.0.0.1");
      await once(server, "listening");
      return;
    } catch (error) {
      if (errnoOf(error) !== "EADDRINUSE" || port === 0 || tries === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
