import { isIP } from "node:net";
import { z } from "zod";
import { toError } from "../errors.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { checkTls, type OptionMistake, readOptionFile, tlsFields, tlsMistakes } from "../stage/index.ts";

/** A server without a scheme is `nats://`; `tls://` asks for TLS. */
const SERVER = /^(?:(nats|tls):\/\/)?(?:([^\s/]*)@)?([^\s/@]+)$/;

export interface ServerAddress {
  /** Host and port, nothing secret. */
  readonly address: string;
  readonly host: string;
  readonly isTls: boolean;
  readonly userInfo: string | undefined;
}

/** Parts of a server that has been checked. */
export function serverOf(text: string): ServerAddress {
  const [, scheme, userInfo, address] = SERVER.exec(text) as RegExpExecArray & { 3: string };
  const host = /^\[(.*)\]/.exec(address)?.[1] ?? (isIP(address) === 0 ? address.replace(/:\d+$/, "") : address);
  return { address, host, isTls: scheme === "tls", userInfo };
}

/** The servers without who we are there. */
export const placesOf = (servers: readonly string[]): string =>
  servers.map((server) => serverOf(server).address).join(",");

function checkServers(servers: readonly string[], context: z.RefinementCtx): void {
  for (const [index, server] of servers.entries()) {
    // Only user info of a URL is masked wherever it is shown; and this message must not show it either.
    if (server.includes("@") && !server.includes("://"))
      context.addIssue({
        code: "custom",
        message: `user info needs nats:// or tls:// in front of it, where it is never shown (number ${index + 1})`,
      });
    else if (!SERVER.test(server))
      context.addIssue({
        code: "custom",
        path: [index],
        message: 'is no NATS address; such as "nats://127.0.0.1:4222", "tls://user:password@nats:4222"',
      });
  }
}

/** How to reach a NATS server: option fields that its source and its sink share. */
export const natsFields = {
  servers: z
    .array(z.string())
    .min(1)
    .superRefine(checkServers)
    .describe(
      'Servers of the cluster, any of them: "nats://host:port", with user and password (or a token) if asked: ' +
        '"tls://user:password@host:port". One login for all of them; `%40` and so on in place of `@`, `/`, `:`.',
    ),
  credentials: z
    .string()
    .min(1)
    .optional()
    .describe(
      "File with the credentials of a user (a JWT and its key), as `nsc` writes it, or with the seed of an NKEY; read " +
        "anew for each connection.",
    ),
  tls: z
    .strictObject({ enabled: z.boolean().default(false).describe("Encrypt the connection."), ...tlsFields })
    .superRefine(checkTls)
    .prefault({})
    .describe("Whom to trust and who we are; also on where a server is `tls://`."),
};

export type NatsOptions = z.infer<z.ZodObject<typeof natsFields>> & { readonly timeout_ms: number };

export const usesTls = ({ tls, servers }: Pick<NatsOptions, "tls" | "servers">): boolean =>
  tls.enabled || servers.some((server) => serverOf(server).isTls);

/** `check` of the source and the sink. */
export async function natsMistakes(options: NatsOptions): Promise<OptionMistake[]> {
  const mistakes = usesTls(options) ? await tlsMistakes(options.tls) : [];
  try {
    if (options.credentials !== undefined) await readOptionFile("credentials", options.credentials, nodeFileSystem);
  } catch (thrown) {
    mistakes.push({ path: ["credentials"], message: toError(thrown).message });
  }
  return mistakes;
}

/** A name that NATS takes for a stream or consumer: it is part of subjects. */
export const natsName = (what: string) =>
  z
    .string()
    .regex(/^[^\s.*>/\\]+$/, "is no name that NATS takes: no spaces, dots, slashes, `*` or `>`")
    .describe(what);

/** A subject to publish on, or with `wildcards` to filter by. */
export const natsSubject = (what: string, { wildcards }: { wildcards: boolean }) =>
  z
    .string()
    .regex(
      wildcards ? /^[^\s.]+(?:\.[^\s.]+)*$/ : /^[^\s.*>]+(?:\.[^\s.*>]+)*$/,
      wildcards ? 'is no subject; such as "logs.>"' : 'is no subject to publish on; such as "logs.app"',
    )
    .describe(what);
