import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { postgresSink } from "../../src/sinks/postgres.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { CertificateAuthority } from "../servers/certificates.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { postgresOrSkip } from "./postgres-or-skip.ts";

const PASSWORD = "p@ss:w/rd%41";

describe("postgres › TLS and a password of a real server", () => {
  postgresOrSkip();
  let authority: CertificateAuthority;
  let stranger: CertificateAuthority;

  beforeAll(() => {
    authority = new CertificateAuthority();
    stranger = new CertificateAuthority();
  });
  afterAll(() => {
    authority?.[Symbol.dispose]();
    stranger?.[Symbol.dispose]();
  });

  /** On an address that stands in its certificate; alice may come by TLS and with her password only. */
  const start = async (isExpired: boolean) => {
    const { cert, key } = authority.issue("server", { isExpired });
    const tls = { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
    const server = await PostgresServer.start(["fsync=off"], { tls });
    await server.query(`CREATE ROLE alice LOGIN SUPERUSER PASSWORD '${PASSWORD}'`);
    const rules = ["host all postgres 127.0.0.1/32 trust", "hostssl all alice 127.0.0.1/32 scram-sha-256", ""];
    writeFileSync(join(server.folder, "data", "pg_hba.conf"), rules.join("\n"));
    // The answer comes before the server has read them; who is let in afterwards knows the new time.
    const loadedAt = async () =>
      (await server.query<{ at: string }>("SELECT pg_conf_load_time()::text AS at")).map(({ at }) => at);
    const before = await loadedAt();
    await server.query("SELECT pg_reload_conf()");
    await expect.poll(loadedAt).not.toEqual(before);
    return server;
  };

  /** As `validate --live` asks. */
  const probe = (server: PostgresServer, password: string, query: string) => {
    const url = `postgres://alice:${encodeURIComponent(password)}@127.0.0.1:${server.port}/postgres${query}`;
    return postgresSink.probe!(postgresSink.options.parse({ url, table: "lines", create: true }), sinkContext());
  };
  const trusting = ({ ca }: CertificateAuthority) => `?sslmode=verify-full&sslrootcert=${ca}`;

  it("lets in who trusts the server and has the password, and says to others what is wrong where", async () => {
    await using server = await start(false);
    const place = `127.0.0.1:${server.port}/postgres`;
    await probe(server, PASSWORD, trusting(authority));
    await expect(probe(server, PASSWORD, trusting(stranger))).rejects.toThrow(`${place}: unable to verify`);
    await expect(probe(server, PASSWORD, "")).rejects.toThrow(/no pg_hba.conf entry .* no encryption/);
    const wrong = probe(server, "0ther-s3cret", trusting(authority));
    await expect(wrong).rejects.toThrow(`${place}: password authentication failed`);
    await expect(wrong).rejects.not.toThrow("0ther-s3cret");
  });

  it("says that the server's certificate has expired", async () => {
    await using server = await start(true);
    const expired = probe(server, PASSWORD, trusting(authority));
    await expect(expired).rejects.toThrow(`127.0.0.1:${server.port}/postgres: certificate has expired`);
  });
});
