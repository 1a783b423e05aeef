import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kafkaSink } from "../../src/sinks/kafka.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { CrashMachine } from "../crash/machine.ts";
import { describeProblems, verify } from "../crash/verify.ts";
import { firstSeed } from "../seed.ts";
import { type Certificate, CertificateAuthority } from "../servers/certificates.ts";
import { createTopic, KafkaServer, readCommitted } from "../servers/kafka.ts";
import { needs } from "../servers/needs.ts";
import { areRefusedClearly, bringsLinesThereAndBack, CountingDoor } from "./secure-agent.ts";

const SEED = firstSeed();

const PASSWORD = "s3cr3t/p@ss:%41";

describe.skipIf(!needs("a Kafka broker"))("kafka › TLS and logins of a real broker", () => {
  let authority: CertificateAuthority;
  let stranger: CertificateAuthority;
  let client: Certificate;
  let server: KafkaServer;

  beforeAll(async () => {
    authority = new CertificateAuthority();
    stranger = new CertificateAuthority();
    client = authority.issue("client", { name: "edge" });
    const own = authority.issue("server");
    const expired = authority.issue("server", { isExpired: true });
    const shows = (listener: string, certificate: Certificate) => [
      `listener.name.${listener}.ssl.keystore.type=PEM`,
      `listener.name.${listener}.ssl.keystore.location=${certificate.both}`,
    ];
    const plain = "org.apache.kafka.common.security.plain.PlainLoginModule";
    const scram = "org.apache.kafka.common.security.scram.ScramLoginModule";
    server = await KafkaServer.start({
      // One that asks for a certificate, one for a login, and one whose own certificate has expired.
      listeners: { MUTUAL: "SSL", LOGIN: "SASL_SSL", OUTDATED: "SSL" },
      users: { alice: PASSWORD },
      properties: [
        ...shows("mutual", own),
        "listener.name.mutual.ssl.client.auth=required",
        "listener.name.mutual.ssl.truststore.type=PEM",
        `listener.name.mutual.ssl.truststore.location=${authority.ca}`,
        ...shows("login", own),
        ...shows("outdated", expired),
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        `listener.name.login.plain.sasl.jaas.config=${plain} required user_alice="${PASSWORD}" user_mallory="m4llory";`,
        `listener.name.login.scram-sha-256.sasl.jaas.config=${scram} required;`,
        `listener.name.login.scram-sha-512.sasl.jaas.config=${scram} required;`,
        // Mallory may log in, and nothing else.
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS;User:alice;User:CN=edge",
      ],
    });
    await createTopic(server.address, "lines", 2);
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    authority?.[Symbol.dispose]();
    stranger?.[Symbol.dispose]();
  });

  const reach = (listener: string, more: string, address = server.addressOf(listener)) =>
    `type = "kafka"\nbrokers = ["${address}"]\ntimeout_ms = 10000\n${more}\n`;
  const trusting = ({ ca }: { ca: string }, own?: Certificate) =>
    `tls = { enabled = true, ca = "${ca}"${own === undefined ? "" : `, cert = "${own.cert}", key = "${own.key}"`} }`;
  const login = (mechanism: string, password = PASSWORD) =>
    `sasl = { mechanism = "${mechanism}", username = "alice", password = "${password}" }`;

  it(`carries each line once over SCRAM and TLS, and back with a certificate, over a kill (seed ${SEED})`, async () => {
    const env = {
      KAFKA_SASL_SSL: server.addressOf("LOGIN"),
      KAFKA_SSL: server.addressOf("MUTUAL"),
      KAFKA_USER: "alice",
      KAFKA_PASSWORD: PASSWORD,
      TLS_CA: authority.ca,
      TLS_CERT: client.cert,
      TLS_KEY: client.key,
    };
    const written = await bringsLinesThereAndBack("kafka", { env, seed: SEED, secrets: [PASSWORD] });
    const verdict = verify(written, await readCommitted(server.address, "lines"), { allowRepeats: false });
    expect(verdict.problems.length, describeProblems(verdict)).toBe(0);
  });

  it("says clearly, once and beforehand, why a broker does not let us in, or why we do not trust it", async () => {
    await using guarded = await CountingDoor.open(server.addressOf("LOGIN"));
    await using untrusted = await CountingDoor.open(server.addressOf("LOGIN"));
    await using outdated = await CountingDoor.open(server.addressOf("OUTDATED"));
    const doors = { guarded, untrusted, outdated };
    const options = {
      guarded: `${trusting(authority)}\n${login("scram-sha-256", "0ther-s3cret")}`,
      untrusted: `${trusting(stranger)}\n${login("scram-sha-256")}`,
      outdated: trusting(authority),
    };
    await using machine = new CrashMachine();
    const names = ["guarded", "untrusted", "outdated"] as const;
    const config = machine.configure({
      more: names
        .map((name) => {
          const to = reach("", options[name], doors[name].address);
          return (
            `[sinks.into_${name}]\ninputs = ["app"]\ntopic = "lines"\ntransactional = ${name !== "outdated"}\n${to}` +
            `[sources.from_${name}]\ntopics = ["lines"]\ngroup_id = "${name}"\n${to}` +
            `[sinks.read_${name}]\ninputs = ["from_${name}"]\ntype = "file"\npath = "${machine.output}.${name}"\n`
          );
        })
        .join(""),
    });
    const wrongPassword = new RegExp(`${guarded.address}: the broker refuses our login: .*invalid credentials`);
    const nobodyVouches = new RegExp(`${untrusted.address}: unable to verify .*; name in tls.ca who signed it`);
    const hasExpired = new RegExp(`${outdated.address}: certificate has expired`);
    await areRefusedClearly(machine, config, {
      reasons: {
        into_guarded: wrongPassword,
        from_guarded: wrongPassword,
        into_untrusted: nobodyVouches,
        from_untrusted: nobodyVouches,
        into_outdated: hasExpired,
        from_outdated: hasExpired,
      },
      secrets: ["0ther-s3cret", "alice", PASSWORD],
      attempts: () => names.map((name) => doors[name].connections),
    });
  });

  /** As `validate --live` asks. */
  const probe = (listener: string, options: object) => {
    const brokers = [server.addressOf(listener)];
    return kafkaSink.probe!(kafkaSink.options.parse({ brokers, topic: "lines", ...options }), sinkContext());
  };
  const sasl = (mechanism: string, username = "alice", password = PASSWORD) => ({ mechanism, username, password });

  it("logs in by each mechanism, and tells what is amiss on either side", async () => {
    const tls = { enabled: true, ca: authority.ca };
    for (const mechanism of ["plain", "scram-sha-256", "scram-sha-512"])
      await probe("LOGIN", { tls, sasl: sasl(mechanism) });
    const wrong = probe("LOGIN", { tls, sasl: sasl("plain", "alice", "wrong") });
    await expect(wrong).rejects.toThrow("the broker refuses our login");
    await expect(probe("LOGIN", { tls })).rejects.toThrow(/login|closed/);
    await expect(probe("MUTUAL", { tls })).rejects.toThrow(
      `${server.addressOf("MUTUAL")}: the broker closed the connection; does it want a login`,
    );
    await expect(probe("MUTUAL", {})).rejects.toThrow("TLS");
    await expect(probe("PLAINTEXT", { tls })).rejects.toThrow("TLS");
    await expect(probe("PLAINTEXT", { sasl: sasl("plain") })).rejects.toThrow(/login|closed/);
    const mallory = { tls, sasl: sasl("plain", "mallory", "m4llory") };
    await expect(probe("LOGIN", mallory)).rejects.toThrow("TOPIC_AUTHORIZATION_FAILED");
  });
});
