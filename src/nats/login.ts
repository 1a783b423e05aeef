import type { Authenticator, ConnectionOptions } from "@nats-io/transport-node";
import type { FileSystem } from "../runtime/file-system.ts";
import { readOptionFile } from "../stage/index.ts";
import { type NatsOptions, serverOf } from "./options.ts";

type Transport = typeof import("@nats-io/transport-node");

/** Who we are at a NATS server: by the user info of its address, or by a file. */
export class NatsLogin {
  /** What is shown to the server, in words without anything secret. */
  readonly words: string;
  readonly #userInfo: ReturnType<typeof loginOf> | undefined;
  readonly #path: string | undefined;
  readonly #transport: Transport;
  readonly #fileSystem: FileSystem;

  constructor({ servers, credentials }: NatsOptions, transport: Transport, fileSystem: FileSystem) {
    const [userInfo] = servers.flatMap((server) => serverOf(server).userInfo ?? []);
    this.#userInfo = userInfo === undefined ? undefined : loginOf(userInfo);
    this.#path = credentials;
    this.#transport = transport;
    this.#fileSystem = fileSystem;
    if (credentials !== undefined) this.words = `our credentials, ${credentials}`;
    else if (this.#userInfo === undefined) this.words = "us without a login";
    else this.words = "token" in this.#userInfo ? "our token" : "our user and password";
  }

  /**
   * For one connection. A file is read anew each time: it is replaced while we run, before what is in it expires.
   * @throws Error: it cannot be read, or holds something else.
   */
  async options(): Promise<Pick<ConnectionOptions, "user" | "pass" | "token" | "authenticator">> {
    const path = this.#path;
    if (path === undefined) return { ...this.#userInfo };
    const file = await readOptionFile("credentials", path, this.#fileSystem);
    const authenticator = this.#authenticatorOf(file);
    try {
      // It looks into the file when it is asked for the first time.
      authenticator("nonce");
    } catch (cause) {
      const wanted = "the credentials of a user, as nsc writes them, nor the seed of an NKEY";
      throw new Error(`credentials = "${path}" holds neither ${wanted}`, { cause });
    }
    return { authenticator };
  }

  /** As `nsc` writes it, a JWT and its key; or the key alone, for a server that knows users by their public keys. */
  #authenticatorOf(file: Buffer): Authenticator {
    const text = file.toString("utf8");
    const [, seed] = /^\s*(SU[A-Z2-7]{56})\s*$/m.exec(text) ?? [];
    if (seed === undefined || text.includes("NATS USER JWT")) return this.#transport.credsAuthenticator(file);
    return this.#transport.nkeyAuthenticator(Buffer.from(seed));
  }
}

/** `user:password`, or a token. */
function loginOf(userInfo: string): { readonly user: string; readonly pass: string } | { readonly token: string } {
  const [user, ...rest] = userInfo.split(":") as [string, ...string[]];
  return rest.length === 0 ? { token: decoded(user) } : { user: decoded(user), pass: decoded(rest.join(":")) };
}

/** A raw `%` is no escape, and then nothing is one. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
