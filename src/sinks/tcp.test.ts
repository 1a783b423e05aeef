import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Sink } from "../stage/index.ts";
import { LineReceiver } from "../testing/line-receiver.ts";
import { sinkContext } from "../testing/sink-context.ts";
import { type TestCertificate, testCertificate } from "../testing/test-certificate.ts";
import { contractBatch } from "../testing/transform-contract.ts";
import { acknowledgementsOf } from "./tcp/acknowledged.ts";
import { parseAddress, tcp } from "./tcp.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function receiver(tls?: TestCertificate): Promise<LineReceiver> {
  const server = new LineReceiver(tls);
  await server.start();
  cleanups.push(() => server.kill());
  return server;
}

async function opened(options: object): Promise<Sink> {
  const sink = await tcp.open(tcp.options.parse({ encoding: "raw", timeout_ms: 2000, ...options }), sinkContext());
  cleanups.push(() => sink[Symbol.asyncDispose]());
  return sink;
}

const never = new AbortController().signal;
const write = (sink: Sink, texts: readonly string[], signal = never) => sink.write(contractBatch(texts), { signal });
const arrived = (server: LineReceiver, lines: readonly string[]) => expect.poll(() => server.lines).toEqual(lines);

describe("tcp", () => {
  it("makes a new connection when the receiver has said goodbye, before it sends anything", async () => {
    const server = await receiver();
    const sink = await opened({ address: server.address });
    expect(await write(sink, ["a"])).toEqual({ kind: "delivered" });
    await arrived(server, ["a"]);
    server.endConnections();
    await expect.poll(() => server.connections).toBe(0);
    expect(await write(sink, ["b"])).toEqual({ kind: "delivered" });
    await arrived(server, ["a", "b"]);
    expect([server.accepted, server.fragments]).toEqual([2, []]);
  });

  it("sends a batch that was cut off again, whole, on a new connection", async () => {
    const server = await receiver();
    const sink = await opened({ address: server.address });
    await write(sink, ["a"]);
    server.stall();
    const lines = Array.from({ length: 64 }, (_, index) => `${index}-${"x".repeat(262_144)}`);
    const torn = write(sink, lines);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await server.kill();
    expect(await torn).toMatchObject({
      kind: "retry",
      isOutcomeUnknown: true,
      reason: expect.stringMatching(/ECONNRESET|EPIPE/),
    });
    server.flow();
    await server.start();
    expect(await write(sink, lines)).toEqual({ kind: "delivered" });
    await expect.poll(() => server.lines.slice(-64)).toEqual(lines);
  });

  it.runIf(process.platform === "linux")("calls nothing delivered that only our own kernel has", async () => {
    const server = await receiver();
    const sink = await opened({ address: server.address });
    await write(sink, ["a"]);
    server.stall();
    const abort = new AbortController();
    const line = "x".repeat(65_536);
    const [, port] = server.address.split(":");
    const sendQueueBytes = () => {
      const row = readFileSync("/proc/net/tcp", "utf8")
        .split("\n")
        .map((text) => text.trim().split(/\s+/))
        .find(([, , remote]) => remote === `0100007F:${Number(port).toString(16).toUpperCase().padStart(4, "0")}`);
      return Number.parseInt(row![4]!.split(":")[0]!, 16);
    };
    // A write that is merely slow comes back in the end; one that waits for the other side never does.
    let writing = write(sink, [line], abort.signal);
    for (let still = 0; still < 3; ) {
      const waiting = new Promise<"waiting">((resolve) => setTimeout(resolve, 100, "waiting"));
      if ((await Promise.race([writing, waiting])) === "waiting") still = sendQueueBytes() > 0 ? still + 1 : 0;
      else {
        still = 0;
        writing = write(sink, [line], abort.signal);
      }
    }
    // Both kernels are full or nearly so; what ours still holds is at most the one batch that was not called delivered.
    expect(sendQueueBytes()).toBeGreaterThan(0);
    expect(sendQueueBytes()).toBeLessThanOrEqual(line.length + 1);
    abort.abort();
    server.flow();
  });

  it("waits no longer than timeout_ms for a connection, but for a receiver that reads late it waits on", async () => {
    const server = await receiver();
    const sink = await opened({ address: server.address, timeout_ms: 100 });
    // A loaded machine may take longer for a connection than that.
    await expect.poll(async () => (await write(sink, ["a"])).kind).toBe("delivered");
    const accepted = server.accepted;
    server.stall();
    const lines = Array.from({ length: 64 }, (_, index) => `${index}-${"x".repeat(262_144)}`);
    const slow = write(sink, lines);
    await new Promise((resolve) => setTimeout(resolve, 300));
    server.flow();
    expect(await slow).toEqual({ kind: "delivered" });
    await arrived(server, ["a", ...lines]);
    expect(server.accepted).toBe(accepted);
  });

  it("takes no notice of what a receiver says", async () => {
    const chatty = createServer((socket) => {
      socket.write("hello\n".repeat(100_000));
      socket.resume();
    });
    chatty.listen(0, "127.0.0.1");
    await once(chatty, "listening");
    cleanups.push(() => chatty.close());
    const sink = await opened({ address: `127.0.0.1:${(chatty.address() as AddressInfo).port}` });
    for (let number = 0; number < 5; number += 1) expect(await write(sink, ["a"])).toEqual({ kind: "delivered" });
  });

  it("says why there is no connection", async () => {
    const server = await receiver();
    await server.kill();
    const sink = await opened({ address: server.address });
    expect(await write(sink, ["a"])).toMatchObject({ kind: "retry", reason: expect.stringContaining("ECONNREFUSED") });
  });
});

describe("tcp with TLS", () => {
  let certificate: TestCertificate;
  beforeAll(() => {
    certificate = testCertificate();
  });
  afterAll(() => certificate.remove());

  it("delivers to a receiver whose certificate is trusted, and comes back after its death", async () => {
    const server = await receiver(certificate);
    const sink = await opened({ address: server.address, tls: { enabled: true, ca: certificate.certPath } });
    expect(await write(sink, ["a", "b"])).toEqual({ kind: "delivered" });
    await arrived(server, ["a", "b"]);
    await server.kill();
    expect((await write(sink, ["c"])).kind).toBe("retry");
    await server.start();
    await expect.poll(async () => (await write(sink, ["c"])).kind).toBe("delivered");
    await expect.poll(() => server.lines).toContain("c");
  });

  it("waits no longer than timeout_ms for a receiver that does not speak TLS", async () => {
    const plain = await receiver();
    const sink = await opened({ address: plain.address, tls: { enabled: true }, timeout_ms: 50 });
    expect(await write(sink, ["a"])).toEqual({ kind: "retry", reason: "no connection within 50 ms" });
    await expect.poll(() => plain.connections).toBe(0);
  });

  it("sends nothing to a receiver whose certificate is not trusted, unless verify is off", async () => {
    const server = await receiver(certificate);
    const strict = await opened({ address: server.address, tls: { enabled: true } });
    expect(await write(strict, ["a"])).toMatchObject({
      kind: "retry",
      reason: expect.stringContaining("self-signed certificate"),
    });
    expect(server.lines).toEqual([]);
    const lax = await opened({ address: server.address, tls: { enabled: true, verify: false } });
    expect(await write(lax, ["a"])).toEqual({ kind: "delivered" });
  });

  it("checks the name that server_name gives", async () => {
    const server = await receiver(certificate);
    const tls = { enabled: true, ca: certificate.certPath };
    const right = await opened({ address: server.address, tls: { ...tls, server_name: "localhost" } });
    expect(await write(right, ["a"])).toEqual({ kind: "delivered" });
    const wrong = await opened({ address: server.address, tls: { ...tls, server_name: "other.example" } });
    expect(await write(wrong, ["a"])).toMatchObject({
      kind: "retry",
      reason: expect.stringContaining("other.example"),
    });
  });

  it("says before anything is started which files it cannot use", async () => {
    const checked = async (tls: object) =>
      (await tcp.check!(tcp.options.parse({ address: "h:1", tls: { enabled: true, ...tls } }))).map(
        ({ path, message }) => `${path.join(".")}: ${message}`,
      );
    const { certPath, keyPath } = certificate;
    expect(await checked({ ca: certPath, cert: certPath, key: keyPath })).toEqual([]);
    expect(await checked({ cert: "/none.pem", key: "/none.key" })).toEqual([
      expect.stringMatching(/^tls\.cert: tls\.cert = "\/none\.pem" cannot be read: ENOENT/),
      expect.stringMatching(/^tls\.key: tls\.key = "\/none\.key" cannot be read: ENOENT/),
    ]);
    expect(await checked({ ca: keyPath })).toEqual([expect.stringMatching(/^tls: .* holds no certificate/)]);
    expect(await checked({ cert: certPath, key: certPath })).toEqual([expect.stringMatching(/^tls: .* is no key/)]);
  });

  it("says at the start which file cannot be read", async () => {
    await expect(opened({ address: "h:1", tls: { enabled: true, ca: "/nonexistent.pem" } })).rejects.toMatchObject({
      code: "TR_STAGE_OPEN",
      message: expect.stringContaining('out: tls.ca = "/nonexistent.pem" cannot be read'),
    });
  });
});

describe("the options of tcp", () => {
  it.each([
    ["localhost:9000", { host: "localhost", port: 9000 }],
    ["127.0.0.1:1", { host: "127.0.0.1", port: 1 }],
    ["[::1]:65535", { host: "::1", port: 65535 }],
    ["::1:9000", undefined],
    ["localhost", undefined],
    ["localhost:", undefined],
    ["localhost:0", undefined],
    ["localhost:65536", undefined],
    ["tcp://localhost:9000", undefined],
    [":9000", undefined],
    ["user@host:9000", undefined],
  ])("read the address %s", (text, expected) => {
    expect(parseAddress(text)).toEqual(expected);
    expect(tcp.options.safeParse({ address: text }).success).toBe(expected !== undefined);
  });

  it("refuse certificates without TLS, and half of a pair", () => {
    const issues = (tls: object) =>
      tcp.options.safeParse({ address: "h:1", tls }).error?.issues.map(({ path }) => path.join("."));
    expect(issues({ ca: "x" })).toEqual(["tls.enabled"]);
    expect(issues({ enabled: true, cert: "x" })).toEqual(["tls.key"]);
    expect(issues({ enabled: true, key: "x" })).toEqual(["tls.cert"]);
  });
});

describe.runIf(process.platform === "linux")("acknowledgementsOf", () => {
  it("tells what the peer's kernel has, and nothing of a closed socket", async () => {
    let peer: Socket | undefined;
    const server = createServer({ pauseOnConnect: true }, (socket) => {
      peer = socket;
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
    cleanups.push(() => {
      socket.destroy();
      peer?.destroy();
      server.close();
    });
    await once(socket, "connect");
    const acknowledgements = (await acknowledgementsOf(socket))!;
    await new Promise((resolve) => socket.write("x".repeat(1000), resolve));
    const small = acknowledgements.mark();
    await expect.poll(() => acknowledgements.has(small)).toBe(true);
    // Until our own kernel takes no more: then there is something that the peer's has not.
    while (socket.write("x".repeat(1_000_000))) await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setTimeout(resolve, 50));
    const large = acknowledgements.mark();
    expect(large).toBeGreaterThan(small);
    expect([acknowledgements.has(small), acknowledgements.has(large)]).toEqual([true, false]);
    peer!.resume();
    await expect.poll(() => acknowledgements.has(large)).toBe(true);
    socket.destroy();
    expect(acknowledgements.has(large)).toBe(false);
    expect(await acknowledgementsOf(socket)).toBeUndefined();
  });
});
