import { once } from "node:events";
import { chmodSync } from "node:fs";
import type { Server } from "node:net";

/** Listens on a Unix socket of mode 0600. Rejects with the system's error. */
export async function listenPrivately(server: Server, path: string): Promise<void> {
  // `listen` binds before it returns, and until the chmod the umask decides who may connect. Nothing else that makes a
  // file may run in between: no await.
  const umask = process.umask(0o177);
  const listening = once(server, "listening");
  try {
    server.listen(path);
  } finally {
    process.umask(umask);
  }
  await listening;
  chmodSync(path, 0o600);
}
