import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NatsConnector } from "../../src/nats/connection.ts";
import { jetstreamSink } from "../../src/sinks/jetstream.ts";
import { linesBatch } from "../../src/testing/memory-stages.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { CrashMachine } from "../crash/machine.ts";
import { firstSeed } from "../seed.ts";
import { type Certificate, CertificateAuthority } from "../servers/certificates.ts";
import { NatsServers } from "../servers/nats.ts";
import { jwtUser, nkeyUser } from "../servers/nats-users.ts";
import { needs } from "../servers/needs.ts";
import { areRefusedClearly, bringsLinesThereAndBack } from "./secure-agent.ts";

const SEED = firstSeed();

/** Every character that a URL takes for something else. */
const PASSWORD = "p@ss:w/rd%41?#";

describe.skipIf(!needs("nats-server"))("jetstream › TLS and logins of a real server", () => {
  let authority: CertificateAuthority;
  let stranger: CertificateAuthority;
  let server: Certificate;
  let client: Certificate;

  beforeAll(() => {
    authority = new CertificateAuthority();
    stranger = new CertificateAuthority();
    server = authority.issue("server");
    client = authority.issue("client", { name: "edge" });
  });
  afterAll(() => {
    authority?.[Symbol.dispose]();
    stranger?.[Symbol.dispose]();
  });

  const tlsOf = ({ cert, key }: Certificate, more = "") =>
    `tls { cert_file: "${cert}", key_file: "${key}", ca_file: "${authority.ca}", ${more} }\n`;
  const trusting = ({ ca }: { ca: string }, own?: Certificate) =>
    own === undefined ? `tls = { ca = "${ca}" }` : `tls = { ca = "${ca}", cert = "${own.cert}", key = "${own.key}" }`;

  it(`carries each line once through a server that asks for certificate, user and password, over a kill (seed ${SEED})`, async () => {
    const config = `${tlsOf(server, "verify: true")}authorization { user: alice, password: "${PASSWORD}" }`;
    await using servers = await NatsServers.start(1, { config });
    const env = {
      NATS: `127.0.0.1:${servers.node.port}`,
      NATS_USER: "alice",
      NATS_PASSWORD: encodeURIComponent(PASSWORD),
      TLS_CA: authority.ca,
      TLS_CERT: client.cert,
      TLS_KEY: client.key,
    };
    await bringsLinesThereAndBack("jetstream", {
      env,
      seed: SEED,
      secrets: [PASSWORD, encodeURIComponent(PASSWORD), "alice"],
    });
  });

  it("says clearly, once and beforehand, why a server does not let us in, or why we do not trust it", async () => {
    const login = `authorization { user: alice, password: "${PASSWORD}" }`;
    const expired = authority.issue("server", { isExpired: true });
    await using guarded = await NatsServers.start(1, { config: `${tlsOf(server)}${login}` });
    await using untrusted = await NatsServers.start(1, { config: tlsOf(server) });
    await using outdated = await NatsServers.start(1, { config: tlsOf(expired) });
    const [first, second, third] = [guarded, untrusted, outdated].map(({ node }) => `127.0.0.1:${node.port}`);
    const cases = [
      { name: "guarded", url: `tls://alice:0ther-s3cret@${first}`, tls: trusting(authority) },
      { name: "untrusted", url: `tls://${second}`, tls: trusting(stranger) },
      { name: "outdated", url: `tls://${third}`, tls: trusting(authority) },
    ];
    await using machine = new CrashMachine();
    const reach = ({ url, tls }: { url: string; tls: string }) =>
      `type = "jetstream"\nservers = ["${url}"]\nstream = "LOGS"\ntimeout_ms = 10000\n${tls}\n`;
    const config = machine.configure({
      more: cases
        .map(
          (one) =>
            `[sinks.into_${one.name}]\ninputs = ["app"]\nsubject = "logs.app"\n${reach(one)}` +
            `[sources.from_${one.name}]\nconsumer = "back"\n${reach(one)}` +
            `[sinks.read_${one.name}]\ninputs = ["from_${one.name}"]\ntype = "file"\npath = "${machine.output}.${one.name}"\n`,
        )
        .join(""),
    });
    const wrongPassword = new RegExp(`${first}: the server refuses our user and password`);
    const nobodyVouches = new RegExp(`${second}: unable to verify .*; name in tls.ca who signed it`);
    const hasExpired = new RegExp(`${third}: certificate has expired`);
    await areRefusedClearly(machine, config, {
      reasons: {
        into_guarded: wrongPassword,
        from_guarded: wrongPassword,
        into_untrusted: nobodyVouches,
        from_untrusted: nobodyVouches,
        into_outdated: hasExpired,
        from_outdated: hasExpired,
      },
      secrets: ["0ther-s3cret", "alice"],
      attempts: () => [
        guarded.node.log.split("authentication error").length,
        untrusted.node.log.split("TLS handshake error").length,
        outdated.node.log.split("TLS handshake error").length,
      ],
    });
  });

  /** One connection, as the source and the sink make it. */
  const connect = async (options: { servers: string[]; credentials?: string; tls?: object }) => {
    const tls = { enabled: false, verify: true, ...options.tls };
    const connector = await NatsConnector.load({ ...options, tls, timeout_ms: 10_000 }, sinkContext());
    const connection = await connector.connect();
    await connector.manager(connection);
    await connection.close();
  };

  it("logs in with a token, an NKEY and the credentials of a user, and tells which of them was refused", async () => {
    const file = (name: string, text: string) => {
      const path = join(authority.folder, name);
      writeFileSync(path, text, { mode: 0o600 });
      return path;
    };
    {
      await using servers = await NatsServers.start(1, { config: 'authorization { token: "s3cr3t" }' });
      const { port } = servers.node;
      await connect({ servers: [`nats://s3cr3t@127.0.0.1:${port}`] });
      await expect(connect({ servers: [`nats://other@127.0.0.1:${port}`] })).rejects.toThrow("refuses our token");
      await expect(connect({ servers: servers.urls })).rejects.toThrow("refuses us without a login");
    }
    {
      const [user, other] = [nkeyUser(), nkeyUser()];
      const config = `authorization { users: [ { nkey: ${user.publicKey} } ] }`;
      await using servers = await NatsServers.start(1, { config });
      await connect({ servers: servers.urls, credentials: file("seed", `${user.seed}\n`) });
      const credentials = file("other-seed", other.seed);
      const refused = connect({ servers: servers.urls, credentials });
      await expect(refused).rejects.toThrow(`refuses our credentials, ${credentials}`);
    }
    {
      const user = jwtUser();
      await using servers = await NatsServers.start(1, { config: user.config });
      const credentials = file("user.creds", user.credentials);
      await connect({ servers: servers.urls, credentials });
      // As the operator renews it, under an agent that runs.
      const connector = await NatsConnector.load(
        { servers: servers.urls, credentials, tls: { enabled: false, verify: true }, timeout_ms: 10_000 },
        sinkContext(),
      );
      file("user.creds", jwtUser().credentials);
      await expect(connector.connect()).rejects.toThrow("refuses our credentials");
      file("user.creds", user.credentials);
      await (await connector.connect()).close();
    }
  });

  it("checks an address of the server against its certificate, and a name that is given in its place", async () => {
    await using servers = await NatsServers.start(1, { config: tlsOf(server) });
    const { port } = servers.node;
    const tls = { ca: authority.ca };
    await connect({ servers: [`tls://127.0.0.1:${port}`], tls });
    await expect(connect({ servers: [`tls://localhost:${port}`], tls })).rejects.toThrow("does not match");
    await connect({ servers: [`tls://localhost:${port}`], tls: { ...tls, server_name: "127.0.0.1" } });
    const misnamed = { ...tls, server_name: "elsewhere" };
    await expect(connect({ servers: [`tls://127.0.0.1:${port}`], tls: misnamed })).rejects.toThrow("elsewhere");
    // Not asked for, and not offered.
    const unasked = connect({ servers: [`nats://127.0.0.1:${port}`] });
    await expect(unasked).rejects.toThrow("the server speaks TLS only: tls.enabled = true");
    await using plain = await NatsServers.start();
    await expect(connect({ servers: [`tls://127.0.0.1:${plain.node.port}`], tls })).rejects.toThrow("'tls'");
  });

  it("refuses files that do not hold what their keys say before it connects", async () => {
    const servers = ["tls://127.0.0.1:1"];
    const load = (tls: object, credentials?: string) => connect({ servers, tls, ...(credentials && { credentials }) });
    await expect(load({ ca: client.key })).rejects.toThrow(`tls.ca = "${client.key}" holds no certificate`);
    await expect(load({ cert: client.cert, key: server.key })).rejects.toThrow(`tls.key = "${server.key}" is no key`);
    await expect(load({ ca: "/nonexistent" })).rejects.toThrow('tls.ca = "/nonexistent" cannot be read');
    await expect(load({}, client.cert)).rejects.toThrow("holds neither the credentials of a user");
  });

  it("says at once what a user may not do, whom the server lets in", async () => {
    const users = [
      "{ user: maker, password: m }",
      '{ user: blind, password: b, permissions: { publish: { deny: ">" } } }',
      '{ user: mute, password: m, permissions: { publish: { deny: "logs.>" } } }',
    ];
    await using servers = await NatsServers.start(1, { config: `authorization { users: [ ${users.join(", ")} ] }` });
    const as = (login: string) => {
      const options = {
        servers: [`nats://${login}@127.0.0.1:${servers.node.port}`],
        stream: "LOGS",
        subject: "logs.a",
      };
      return jetstreamSink.open(jetstreamSink.options.parse({ ...options, create: true }), sinkContext());
    };
    await using maker = await as("maker:m");
    await maker.recover!();
    await using blind = await as("blind:b");
    await expect(blind.recover!()).rejects.toThrow('Permissions Violation for Publish to "$JS.API.STREAM.INFO.LOGS"');
    await using mute = await as("mute:m");
    await mute.recover!();
    const batch = linesBatch("app", "a", 0, ["one", "two"]);
    expect(await mute.write(batch, { signal: new AbortController().signal, way: "" })).toMatchObject({
      kind: "retry",
      reason: "the server does not allow us to publish on logs.a",
    });
  });

  it("goes to the next server where one is down, and names all that failed", async () => {
    await using servers = await NatsServers.start();
    await connect({ servers: ["nats://127.0.0.1:1", ...servers.urls] });
    const nowhere = connect({ servers: ["nats://127.0.0.1:1", "nats://127.0.0.1:2"] });
    await expect(nowhere).rejects.toThrow(/127\.0\.0\.1:1: .*127\.0\.0\.1:2: |127\.0\.0\.1:2: .*127\.0\.0\.1:1: /);
  });
});
