import { createHash } from "node:crypto";
import { nkeys } from "@nats-io/transport-node";

/** A user of a server that knows users by their public keys. */
export function nkeyUser(): { readonly seed: string; readonly publicKey: string } {
  const pair = nkeys.createUser();
  return { seed: Buffer.from(pair.getSeed()).toString(), publicKey: pair.getPublicKey() };
}

/**
 * An operator, one account with JetStream and a user of it, as `nsc` makes them (JWT version 2).
 * `config` goes into the server's configuration; `credentials` is the user's file.
 */
export function jwtUser(): { readonly config: string; readonly credentials: string } {
  const [operator, account, system, user] = [
    nkeys.createOperator(),
    nkeys.createAccount(),
    nkeys.createAccount(),
    nkeys.createUser(),
  ];
  const limits = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };
  const operatorJwt = signed(operator, operator, "tests", {
    type: "operator",
    system_account: system.getPublicKey(),
  });
  const accountJwt = (pair: KeyPair, name: string, storage: number) =>
    signed(operator, pair, name, {
      type: "account",
      limits: { ...limits, mem_storage: storage, disk_storage: storage, streams: -1, consumer: -1 },
    });
  const userJwt = signed(account, user, "edge", { type: "user", subs: -1, data: -1, payload: -1, pub: {}, sub: {} });
  return {
    config: [
      `operator: ${operatorJwt}`,
      `system_account: ${system.getPublicKey()}`,
      "resolver: MEMORY",
      "resolver_preload: {",
      `  ${account.getPublicKey()}: ${accountJwt(account, "logs", -1)}`,
      `  ${system.getPublicKey()}: ${accountJwt(system, "system", 0)}`,
      "}",
    ].join("\n"),
    credentials: [
      "-----BEGIN NATS USER JWT-----",
      userJwt,
      "------END NATS USER JWT------",
      "",
      "-----BEGIN USER NKEY SEED-----",
      Buffer.from(user.getSeed()).toString(),
      "------END USER NKEY SEED------",
      "",
    ].join("\n"),
  };
}

type KeyPair = ReturnType<typeof nkeys.createUser>;

function signed(issuer: KeyPair, subject: KeyPair, name: string, nats: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = {
    iat: Math.floor(Date.now() / 1000),
    iss: issuer.getPublicKey(),
    name,
    sub: subject.getPublicKey(),
    nats: { ...nats, version: 2 },
  };
  const jti = createHash("sha256").update(JSON.stringify(claims)).digest("hex");
  const body = `${part({ typ: "JWT", alg: "ed25519-nkey" })}.${part({ jti, ...claims })}`;
  return `${body}.${Buffer.from(issuer.sign(Buffer.from(body))).toString("base64url")}`;
}
