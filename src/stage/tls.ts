import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { checkServerIdentity, createSecureContext, type PeerCertificate } from "node:tls";
import { z } from "zod";
import { errnoOf, StageError, toError } from "../errors.ts";
import { describeConnectionError } from "../runtime/connection-error.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import type { StageContext } from "./contract.ts";
import type { OptionMistake } from "./define.ts";
import { readOptionFile } from "./option-file.ts";

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

const FILES = ["ca", "cert", "key"] as const;

/** The same in the words of `node:tls`. */
export interface TlsConnection {
  rejectUnauthorized: boolean;
  servername?: string;
  /** Set where the name to check is an address: such a name is never asked for (RFC 6066, section 3). */
  checkServerIdentity?: (host: string, certificate: PeerCertificate) => Error | undefined;
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

/** What is wrong with the files, told before anything is started; for `check` of a stage that has its options in `tls`. */
export async function tlsMistakes(options: TlsOptions): Promise<OptionMistake[]> {
  const mistakes: OptionMistake[] = [];
  const found: Pick<TlsConnection, "ca" | "cert" | "key"> = {};
  for (const part of FILES) {
    const path = options[part];
    if (path === undefined) continue;
    try {
      found[part] = await readOptionFile(`tls.${part}`, path, nodeFileSystem);
    } catch (thrown) {
      mistakes.push({ path: ["tls", part], message: toError(thrown).message });
    }
  }
  if (mistakes.length > 0) return mistakes;
  try {
    checkFiles(options, found);
  } catch (thrown) {
    mistakes.push({ path: ["tls"], message: toError(thrown).message });
  }
  return mistakes;
}

/**
 * Reads the files.
 * @throws StageError `TR_STAGE_OPEN`: a file cannot be read, or does not hold what its key says.
 */
export async function tlsConnection(options: TlsOptions, context: StageContext): Promise<TlsConnection> {
  const connection: TlsConnection = { rejectUnauthorized: options.verify };
  if (!options.verify) {
    context.log.warn(
      { component: context.name },
      `${context.name}: tls.verify = false: the certificate is not checked`,
    );
  }
  const { server_name: name } = options;
  if (name !== undefined && isIP(name) === 0) connection.servername = name;
  else if (name !== undefined)
    connection.checkServerIdentity = (_host, certificate) => checkServerIdentity(name, certificate);
  try {
    for (const part of FILES) {
      const path = options[part];
      if (path !== undefined) connection[part] = await readOptionFile(`tls.${part}`, path, context.fileSystem);
    }
    checkFiles(options, connection);
  } catch (thrown) {
    throw new StageError("TR_STAGE_OPEN", context.name, toError(thrown).message, { cause: thrown });
  }
  return connection;
}

/** OpenSSL takes a file of authorities without any for none, and tells of half a pair at each connection only. */
function checkFiles(options: TlsOptions, { ca, cert, key }: Pick<TlsConnection, "ca" | "cert" | "key">): void {
  const check = (what: string, test: () => unknown) => {
    try {
      test();
    } catch (thrown) {
      throw new Error(`${what}: ${describeConnectionError(toError(thrown))}`, { cause: thrown });
    }
  };
  if (ca !== undefined) check(`tls.ca = "${options.ca}" holds no certificate in PEM`, () => new X509Certificate(ca));
  if (cert === undefined || key === undefined) return;
  check(`tls.cert = "${options.cert}" holds no certificate in PEM`, () => new X509Certificate(cert));
  const pair = `tls.key = "${options.key}" is no key, without a passphrase, of tls.cert = "${options.cert}"`;
  check(pair, () => createSecureContext({ cert, key }));
}

/** What mends a failure of TLS, by its code in Node and OpenSSL (X509_V_ERR_..., alerts of RFC 8446, section 6). */
const REMEDIES: readonly (readonly [RegExp, string])[] = [
  [/^(?:UNABLE_TO_(?:VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT.*)|.*SELF_SIGNED_CERT.*)$/, "name in tls.ca who signed it"],
  [/^CERT_HAS_EXPIRED$/, "the server needs a new one"],
  [/^ERR_TLS_CERT_ALTNAME_INVALID$/, "tls.server_name says what name to check instead"],
  [/^ERR_SSL_(?:WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG)$/, "the server does not speak TLS there"],
  [
    /_ALERT_(?:CERTIFICATE_REQUIRED|UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_(?:EXPIRED|REVOKED|UNKNOWN))$/,
    "the server wants a certificate of ours that it trusts: tls.cert and tls.key",
  ],
];

/** In a few words what to do about a failure of TLS; undefined where the error is another one. */
export function tlsRemedy(error: unknown): string | undefined {
  const code = errnoOf(error);
  return code === undefined ? undefined : REMEDIES.find(([pattern]) => pattern.test(code))?.[1];
}
