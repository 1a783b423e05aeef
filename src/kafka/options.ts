import { z } from "zod";
import { checkTls, type OptionMistake, secret, tlsFields, tlsMistakes } from "../stage/index.ts";

/** How to reach a Kafka cluster: option fields that its source and its sink share. */
export const kafkaFields = {
  brokers: z
    .array(z.string().regex(/^(?:\[[^\]]+\]|[^\s:/@]+):\d+$/, 'is no broker; such as "127.0.0.1:9092"'))
    .min(1)
    .describe('Brokers to ask first, any of the cluster: "host:port".'),
  tls: z
    .strictObject({ enabled: z.boolean().default(false).describe("Encrypt the connections."), ...tlsFields })
    .superRefine(checkTls)
    .prefault({}),
  sasl: z
    .strictObject({
      mechanism: z.enum(["plain", "scram-sha-256", "scram-sha-512"]).describe("How to log in."),
      username: z.string().min(1).describe("Who we are."),
      password: secret().describe("Its password."),
    })
    .optional()
    .describe("Log in; without it there is no login."),
};

export type KafkaOptions = z.infer<z.ZodObject<typeof kafkaFields>> & { readonly timeout_ms: number };

/** `check` of the source and the sink. */
export async function kafkaMistakes({ tls }: Pick<KafkaOptions, "tls">): Promise<OptionMistake[]> {
  return tls.enabled ? tlsMistakes(tls) : [];
}

/** A name that Kafka takes for a topic. */
export const topicName = (what: string) =>
  z
    .string()
    .regex(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/, "is no topic name: letters, digits, `.`, `_` and `-`, at most 249")
    .describe(what);
