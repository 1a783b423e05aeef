import { chmodSync } from "node:fs";
import type { Server } from "node:http";

/** Listens on a Unix socket of mode 0600. Rejects with the system's error. */
export async function listenPrivately(server: Server, path: string): Promise<void> {
  // Between bind and chmod the umask decides.
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } finally {
    process.umask(umask);
  }
  chmodSync(path, 0o600);
}
