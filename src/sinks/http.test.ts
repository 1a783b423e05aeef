import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Sink, SinkContext } from "../stage/index.ts";
import { type Answer, HttpReceiver } from "../testing/http-receiver.ts";
import { sinkContext } from "../testing/sink-context.ts";
import { type TestCertificate, testCertificate } from "../testing/test-certificate.ts";
import { contractBatch } from "../testing/transform-contract.ts";
import { retryAfterMs, verdictOf } from "./http/answers.ts";
import { http } from "./http.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function receiver(tls?: ConstructorParameters<typeof HttpReceiver>[0]): Promise<HttpReceiver> {
  const server = new HttpReceiver(tls);
  await server.start();
  cleanups.push(() => server.kill());
  return server;
}

async function opened(options: object, context: Partial<SinkContext> = {}): Promise<Sink> {
  const sink = await http.open(http.options.parse({ timeout_ms: 2000, ...options }), sinkContext(context));
  cleanups.push(() => sink[Symbol.asyncDispose]());
  return sink;
}

const never = new AbortController().signal;
const write = (sink: Sink, texts: readonly string[], signal = never) => sink.write(contractBatch(texts), { signal });

async function outcomeOf(answer: Answer, options: object = {}) {
  const server = await receiver();
  server.answer = () => answer;
  return write(await opened({ url: server.url, ...options }), ["a"]);
}

describe("http", () => {
  it("posts a batch as newline-delimited JSON, with its ids", async () => {
    const server = await receiver();
    const sink = await opened({ url: server.url, headers: { "X-Key": "k-1234" } });
    expect(await write(sink, ["a", "b"])).toEqual({ kind: "delivered" });
    const [request] = server.requests;
    const ids = contractBatch(["a", "b"]).records.map(({ id }) => id);
    expect(request).toMatchObject({ method: "POST", url: "/ingest?x=1" });
    expect(request!.headers).toMatchObject({
      "content-type": "application/x-ndjson",
      "x-key": "k-1234",
      "idempotency-key": `${ids[0]}+2-4`,
      "tailrace-first-record-id": ids[0],
      "tailrace-last-record-id": ids[1],
      "tailrace-record-count": "2",
    });
    expect(server.lines.map((line) => (JSON.parse(line) as { message: string }).message)).toEqual(["a", "b"]);
  });

  it("gives the same key to the same records, and another one to others", async () => {
    const server = await receiver();
    const sink = await opened({ url: server.url });
    const [a, b, c] = contractBatch(["a", "b", "c"]).records.map((record) => record.with({ x: record.offset }));
    const whole = contractBatch(["a", "b", "c"]);
    for (const records of [[a!, c!], [b!], [a!, c!], [a!, b!]])
      await sink.write(whole.withRecords(records), { signal: never });
    const keys = server.requests.map(({ headers }) => headers["idempotency-key"]);
    expect(keys[0]).toBe(keys[2]);
    expect(new Set(keys).size).toBe(3);
    const hash = createHash("sha256").update(`${a!.id}\n${c!.id}`).digest("hex").slice(0, 16);
    expect(keys[0]).toBe(`${a!.id}+2-${hash}`);
  });

  it("compresses, and sends text and raw bytes", async () => {
    const server = await receiver();
    for (const options of [
      { compression: "gzip", encoding: "raw" },
      { encoding: "text", method: "PUT" },
    ]) {
      await write(await opened({ url: server.url, ...options }), ["a", "ü"]);
    }
    expect(server.requests.map(({ body }) => body)).toEqual(["a\nü\n", "a\nü\n"]);
    expect(server.requests.map(({ headers }) => headers["content-encoding"])).toEqual(["gzip", undefined]);
    expect(server.requests.map(({ method }) => method)).toEqual(["POST", "PUT"]);
  });

  it("makes user info of the URL a header, and shows it nowhere, even if the server echoes it", async () => {
    const server = await receiver();
    server.answer = ({ headers }) => ({ status: 400, body: `no: ${headers.authorization} hunter2%secret token-9876` });
    const url = server.url.replace("//", "//user:hunter2%25secret@");
    const sink = await opened({ url, headers: { "x-token": "token-9876" } });
    const outcome = await write(sink, ["a"]);
    expect(server.requests[0]!.headers.authorization).toBe(
      `Basic ${Buffer.from("user:hunter2%secret").toString("base64")}`,
    );
    expect(server.requests[0]!.url).toBe("/ingest?x=1");
    expect(outcome).toMatchObject({ kind: "rejected" });
    expect(JSON.stringify(outcome)).not.toMatch(/hunter2|9876|dXNlcjp/);
    expect(http.target?.(http.options.parse({ url }))).toBe(server.url);
  });

  it.each([
    [200, "delivered"],
    [204, "delivered"],
    [302, "retry"],
    [400, "rejected"],
    [401, "retry"],
    [403, "retry"],
    [404, "retry"],
    [405, "retry"],
    [408, "retry"],
    [413, "rejected"],
    [422, "rejected"],
    [425, "retry"],
    [429, "retry"],
    [500, "retry"],
    [503, "retry"],
  ])("takes the answer %d as %s", async (status, kind) => {
    const outcome = await outcomeOf({ status, body: "because" });
    expect(outcome.kind).toBe(kind);
    if (outcome.kind !== "delivered")
      expect(outcome.reason).toMatch(new RegExp(`^the answer was ${status}, .*: because$`));
  });

  it("waits as long as the server asks for", async () => {
    expect(await outcomeOf({ status: 429, headers: { "retry-after": "7" } })).toMatchObject({
      kind: "retry",
      afterMs: 7000,
    });
    expect(await outcomeOf({ status: 503 })).not.toHaveProperty("afterMs");
  });

  it("tells a wrong configuration once as an error, not with every attempt", async () => {
    const server = await receiver();
    const errors: string[] = [];
    const log = {
      error: (_: object, message: string) => void errors.push(message),
      warn() {},
      info() {},
      debug() {},
      child: () => log,
    };
    const sink = await opened({ url: server.url }, { log });
    for (const status of [401, 401, 204, 401]) {
      server.answer = () => ({ status });
      await write(sink, ["a"]);
    }
    expect(errors).toHaveLength(2);
    expect(errors[0]).toBe(
      "out: the answer was 401, the credentials are missing or wrong; nothing is lost, it is sent again until the configuration is mended",
    );
  });

  it("asks for a retry when no answer comes, and does not know the outcome", async () => {
    expect(await outcomeOf("hang", { timeout_ms: 50 })).toEqual({
      kind: "retry",
      reason: "no answer within 50 ms",
      isOutcomeUnknown: true,
    });
    expect(await outcomeOf("reset")).toMatchObject({ kind: "retry", isOutcomeUnknown: true });
  });

  it("shows the beginning of a long answer only", async () => {
    const outcome = await outcomeOf({ status: 400, body: "x".repeat(500_000) });
    expect(outcome).toMatchObject({
      reason: `the answer was 400, the server does not take these records: ${"x".repeat(200)}...`,
    });
  });

  it("takes no more than 64 KiB of an answer that never ends, whatever it says of the batch", async () => {
    for (const [status, kind] of [
      [200, "delivered"],
      [503, "retry"],
    ] as const) {
      let answered = 0;
      const server = createServer((request, response) => {
        request.resume();
        response.writeHead(status);
        const more = () => {
          while (!response.destroyed && answered < 64 * 1024 * 1024) {
            answered += 16 * 1024;
            if (!response.write("x".repeat(16 * 1024))) {
              response.once("drain", more);
              return;
            }
          }
        };
        more();
      });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      cleanups.push(() => server.close());
      const { port } = server.address() as AddressInfo;
      const outcome = await write(await opened({ url: `http://127.0.0.1:${port}/` }), ["a"]);
      expect(outcome.kind).toBe(kind);
      // What is beyond the 64 KiB was in the kernel's buffers on both sides.
      expect(answered).toBeLessThan(16 * 1024 * 1024);
    }
  });

  it("sends nothing for a batch without bytes", async () => {
    const server = await receiver();
    const sink = await opened({ url: server.url });
    const empty = contractBatch([""]);
    expect(await sink.write(empty.withRecords([]), { signal: never })).toEqual({ kind: "delivered" });
    expect(server.requests).toEqual([]);
  });
});

describe("http with TLS", () => {
  let certificate: TestCertificate;
  beforeAll(() => {
    certificate = testCertificate();
  });
  afterAll(() => certificate.remove());

  it("delivers to a server that it trusts, and shows its own certificate", async () => {
    const { cert, key, certPath, keyPath } = certificate;
    const server = await receiver({ cert, key, ca: cert, requestCert: true });
    const tls = { ca: certPath, cert: certPath, key: keyPath };
    expect(await write(await opened({ url: server.url, tls }), ["a"])).toEqual({ kind: "delivered" });
    const stranger = await opened({ url: server.url, tls: { ca: certPath } });
    expect((await write(stranger, ["b"])).kind).toBe("retry");
  });

  it("sends nothing to a server that it does not trust, unless verify is off", async () => {
    const server = await receiver(certificate);
    const outcome = await write(await opened({ url: server.url }), ["a"]);
    expect(outcome).toMatchObject({ kind: "retry", reason: expect.stringContaining("self-signed certificate") });
    expect(server.requests).toEqual([]);
    expect(await write(await opened({ url: server.url, tls: { verify: false } }), ["a"])).toEqual({
      kind: "delivered",
    });
  });
});

describe("the options of http", () => {
  const issues = (options: object) =>
    http.options.safeParse(options).error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);

  it("refuse what is no URL of http, without showing it", () => {
    for (const url of ["ftp://a:secret@h/", "a:secret@h", "", "http://", "http://u:%zz@h/"]) {
      expect(issues({ url })).toHaveLength(1);
      expect(issues({ url })!.join()).not.toContain("secret");
    }
  });

  it("refuse headers that are ours, doubled, or no headers", () => {
    const url = "http://u:p@h/";
    expect(issues({ url, headers: { "Content-Length": "5" } })?.[0]).toContain(
      "headers.Content-Length: Content-Length is set for each request",
    );
    expect(issues({ url, headers: { a: "1", A: "2" } })?.[0]).toContain("A is there twice");
    expect(issues({ url, headers: { "a b": "1" } })?.[0]).toContain("no valid header name");
    expect(issues({ url, headers: { a: "1\r\nb: 2" } })?.[0]).toContain("no header can carry");
    expect(issues({ url, headers: { Authorization: "Bearer x" } })?.[0]).toContain("the URL has user info too");
  });
});

describe("verdictOf and retryAfterMs", () => {
  it("know every status that a server can send", () => {
    for (let status = 200; status < 600; status += 1) expect(verdictOf(status).why.length).toBeGreaterThan(0);
    expect(verdictOf(299).verdict).toBe("delivered");
    expect(verdictOf(599).verdict).toBe("retry");
  });

  it.each([
    ["5", 5000],
    ["0", 0],
    ["Thu, 01 Jan 1970 00:01:40 GMT", 90_000],
    ["Thu, 01 Jan 1970 00:00:01 GMT", 0],
    ["999999999", 3_600_000],
    ["soon", undefined],
    ["", undefined],
    [undefined, undefined],
  ])("read Retry-After: %s", (header, expected) => {
    expect(retryAfterMs(header, { ...sinkContext().clock, now: () => 10_000 })).toBe(expected);
  });
});
