import { z } from "zod";
import { checkTls, tlsFields } from "../stage/index.ts";

/** A server without a scheme; `tls://` asks for TLS. */
const SERVER = /^(?:(?:nats|tls):\/\/)?[^\s/]+$/;

/** How to reach a NATS server: option fields that its source and its sink share. */
export const natsFields = {
  servers: z
    .array(
      z.string().regex(SERVER, 'is no NATS address; such as "nats://127.0.0.1:4222", "tls://user:password@nats:4222"'),
    )
    .min(1)
    .describe('Servers of the cluster, any of them: "nats://host:port", with user and password (or a token) if asked.'),
  credentials: z
    .string()
    .min(1)
    .optional()
    .describe("File with the credentials of a user (a JWT and its key), as `nsc` writes it."),
  tls: z
    .strictObject({ enabled: z.boolean().default(false).describe("Encrypt the connection."), ...tlsFields })
    .superRefine(checkTls)
    .prefault({})
    .describe("Whom to trust and who we are; also on where a server is `tls://`."),
};

export type NatsOptions = z.infer<z.ZodObject<typeof natsFields>> & { readonly timeout_ms: number };

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
