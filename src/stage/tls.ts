import { z } from "zod";
import { StageError, toError } from "../errors.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import type { StageContext } from "./contract.ts";

/** `[sinks.NAME.tls]`: whom to trust and who we are. Files are PEM, read when the sink is opened. */
export const tlsFields = {
  ca: z.string().min(1).optional().describe("File with the certificates to trust instead of the system's, PEM."),
  cert: z.string().min(1).optional().describe("File with our certificate, PEM; needs `key`."),
  key: z.string().min(1).optional().describe("File with the private key of `cert`, PEM."),
  server_name: z.string().min(1).optional().describe("The name to ask for and to check, where it is not the host's."),
  verify: z
    .boolean()
    .default(true)
    .describe("false: take any certificate. Whoever stands in between can then read and change everything."),
};

export interface TlsOptions {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly server_name?: string | undefined;
  readonly verify: boolean;
}

/** The same in the words of `node:tls`. */
export interface TlsConnection {
  rejectUnauthorized: boolean;
  servername?: string;
  ca?: Buffer;
  cert?: Buffer;
  key?: Buffer;
}

/** Refuses half of a pair; for `superRefine`. */
export function checkTls(options: TlsOptions, context: z.RefinementCtx): void {
  if ((options.cert === undefined) === (options.key === undefined)) return;
  const missing = options.cert === undefined ? "cert" : "key";
  context.addIssue({ code: "custom", path: [missing], message: "cert and key belong together; give both or none" });
}

/**
 * Reads the files.
 * @throws StageError `TR_STAGE_OPEN`: a file cannot be read.
 */
export async function tlsConnection(options: TlsOptions, context: StageContext): Promise<TlsConnection> {
  const connection: TlsConnection = { rejectUnauthorized: options.verify };
  if (!options.verify) {
    context.log.warn(
      { component: context.name },
      `${context.name}: tls.verify = false: the certificate is not checked`,
    );
  }
  if (options.server_name !== undefined) connection.servername = options.server_name;
  for (const part of ["ca", "cert", "key"] as const) {
    const path = options[part];
    if (path !== undefined) connection[part] = await read(path, `tls.${part}`, context);
  }
  return connection;
}

async function read(path: string, key: string, { name, fileSystem }: StageContext): Promise<Buffer> {
  try {
    const handle = await fileSystem.open(pathFromText(path), "read");
    try {
      const { size } = await handle.stat();
      const bytes = Buffer.alloc(size);
      let filled = 0;
      while (filled < size) {
        const count = await handle.read(bytes, filled, size - filled, filled);
        if (count === 0) break;
        filled += count;
      }
      return bytes.subarray(0, filled);
    } finally {
      await handle.close();
    }
  } catch (thrown) {
    throw new StageError("TR_STAGE_OPEN", name, `${key} = "${path}" cannot be read: ${toError(thrown).message}`, {
      cause: thrown,
    });
  }
}
