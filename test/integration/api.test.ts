import { existsSync, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { defineSink, defineTransform } from "../../src/stage/index.ts";
import { EVENTS, type LifecycleEvent } from "../../src/telemetry/events.ts";
import { HttpReceiver } from "../../src/testing/http-receiver.ts";
import { ServedAgent, until } from "./served-agent.ts";

interface Ready {
  readonly ready: boolean;
  readonly not_ready?: readonly { readonly component: string; readonly reason: string }[];
}

interface OpenApi {
  readonly paths: { readonly [path: string]: { readonly [method: string]: { readonly responses: object } } };
}

/** The events of a stream as they come. */
async function* eventsOf(answer: IncomingMessage): AsyncGenerator<LifecycleEvent> {
  for await (const line of createInterface({ input: answer })) {
    if (line.startsWith("data: ")) yield JSON.parse(line.slice(6)) as LifecycleEvent;
  }
}

describe("API", () => {
  it("is live and ready once sources and sinks are up", async () => {
    await using served = await ServedAgent.start();
    expect(await served.ask("/live")).toMatchObject({ status: 200, body: '{"live":true}' });
    expect(await served.ask("/ready")).toMatchObject({ status: 200, body: '{"ready":true}' });
  });

  it("is there while the stages open, and says that it is starting", async () => {
    await using served = new ServedAgent();
    await served.open({});
    const ready = await served.ask("/ready");
    expect(ready).toMatchObject({ status: 503, headers: { "retry-after": "1" } });
    expect(JSON.parse(ready.body)).toEqual({
      ready: false,
      not_ready: [{ component: "agent", reason: "it is starting" }],
    });
    expect((await served.ask("/live")).status).toBe(200);
    expect((await served.ask("/api/status")).status).toBe(503);
    served.run();
    await until(async () => (await served.ask("/ready")).status === 200, "readiness");
  });

  it.each([
    { failure: "refuses", answer: () => ({ status: 503 }) as const },
    { failure: "says nothing", answer: () => "hang" as const },
  ])(
    "names a sink whose target $failure within two seconds, and is ready again when it is mended",
    async ({ answer }) => {
      const target = new HttpReceiver();
      await target.start();
      const url = target.url;
      await using served = await ServedAgent.start({
        sinks: { out: { type: "http", inputs: ["app"], url, timeout_ms: 3000, retry: { initial_ms: 10, max_ms: 50 } } },
      });
      target.answer = answer;
      served.append("one\n");
      await until(() => target.requests.length > 0, "the target to be asked");
      // Two seconds of the agent's clock: those of a loaded machine are no measure.
      served.skippedMs = 2000;
      let ready: Ready = { ready: true };
      await until(async () => {
        ready = await served.json<Ready>("/ready");
        return !ready.ready;
      }, "the sink to be named");
      expect(ready.not_ready).toEqual([{ component: "out", reason: expect.any(String) }]);
      expect((await served.ask("/ready")).headers["retry-after"]).toBe("1");
      expect((await served.ask("/live")).status).toBe(200);
      target.answer = () => ({ status: 204 });
      await until(async () => (await served.ask("/ready")).status === 200, "readiness");
      await target.kill();
    },
  );

  it("is not live while a stage hangs, and names it", async () => {
    let release = () => {};
    const hanging = defineTransform({
      type: "hanging",
      summary: "Gives back when told.",
      options: z.strictObject({}),
      open: async () => ({
        apply: (records) => new Promise((resolve) => (release = () => resolve({ kept: records }))),
      }),
    });
    await using served = await ServedAgent.start(
      (folder) => ({
        transforms: { hang: { type: "hanging", inputs: ["app"] } },
        sinks: { out: { type: "file", inputs: ["hang"], path: join(folder, "out") } },
      }),
      { transforms: [hanging] },
    );
    served.append("one\n");
    await until(() => served.agent.status().records === 1, "the record");
    expect((await served.ask("/live")).status).toBe(200);
    served.skippedMs = 119_000;
    expect((await served.ask("/live")).status).toBe(200);
    served.skippedMs = 125_000;
    const live = await served.ask("/live");
    expect(live.status).toBe(503);
    expect(JSON.parse(live.body)).toEqual({
      live: false,
      stuck: [{ component: "hang", reason: expect.stringContaining("same batch") }],
    });
    release();
    await until(async () => (await served.ask("/live")).status === 200, "progress");
  });

  it("answers a Host that is not ours with 421, and ours, loopback and listed names", async () => {
    await using served = await ServedAgent.start({
      api: { address: "127.0.0.1:0", allowed_hosts: ["tail.example.org"] },
    });
    const { host } = new URL(served.agent.apiAddress!);
    const status = async (name: string) => (await served.ask("/live", { headers: { host: name } })).status;
    for (const ours of [
      host,
      "localhost",
      "localhost:80",
      "[::1]:1",
      "127.0.0.9",
      "tail.example.org",
      "TAIL.example.org.:99",
    ])
      expect([ours, await status(ours)]).toEqual([ours, 200]);
    for (const foreign of ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.1.2.3"])
      expect([foreign, await status(foreign)]).toEqual([foreign, 421]);
    const rebound = await served.ask("/api/status", { headers: { host: "evil.example" } });
    expect(rebound.body).not.toContain("sinks");
  });

  it("refuses requests of foreign pages, and actions without the token of STATE_DIR/api-token", async () => {
    await using served = await ServedAgent.start();
    const path = join(served.stateDir, "api-token");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const token = readFileSync(path, "utf8").trim();
    expect(token).toMatch(/^[0-9a-f]{64}$/);
    const act = async (headers: { [name: string]: string }) => {
      const body = JSON.stringify({ command: "reset_position", path: "/nothing" });
      return (await served.ask("/api/commands", { method: "POST", body, headers })).status;
    };
    expect(await act({})).toBe(401);
    expect(await act({ authorization: "Bearer wrong" })).toBe(401);
    // A browser adds a password that it knows to whatever a hostile page makes it send.
    const basic = `Basic ${Buffer.from(`me:${token}`).toString("base64")}`;
    expect(await act({ authorization: basic })).toBe(401);
    expect(await act({ authorization: `Bearer ${token}`, origin: "https://evil.example" })).toBe(403);
    expect(await act({ authorization: `Bearer ${token}`, origin: "null" })).toBe(403);
    expect(await act({ authorization: `Bearer ${token}` })).toBe(200);
    const own = served.agent.apiAddress!;
    expect(await act({ authorization: `Bearer ${token}`, origin: own, host: new URL(own).host })).toBe(200);
    expect((await served.ask("/api/status", { headers: { origin: "https://evil.example" } })).status).toBe(403);
  });

  it("off loopback answers nobody without the token", async () => {
    await using served = await ServedAgent.start({ api: { address: "0.0.0.0:0", token: "sesame" } });
    expect(existsSync(join(served.stateDir, "api-token"))).toBe(false);
    for (const path of ["/", "/live", "/metrics", "/api/status"]) {
      expect([path, (await served.ask(path)).status]).toEqual([path, 401]);
      const answer = await served.ask(path, { headers: { authorization: "Bearer sesame" } });
      expect([path, answer.status]).toEqual([path, 200]);
    }
  });

  it("listens on a Unix socket that only its owner may open, and removes it at the end", async () => {
    const served = new ServedAgent();
    const path = join(served.folder, "api.sock");
    const umask = process.umask(0);
    await served.open({ api: { address: `unix:${path}` } });
    process.umask(umask);
    served.run();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect((await served.ask("/live")).status).toBe(200);
    expect((await served.ask("/metrics")).body).toContain("tailrace_build_info");
    served.agent.stop("test");
    await served.ended;
    expect(existsSync(path)).toBe(false);
    await served[Symbol.asyncDispose]();
  });

  it("that finds its address taken stops the start with one message, before anything was opened", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    await expect(ServedAgent.start({ api: { address: `127.0.0.1:${port}` } })).rejects.toMatchObject({
      code: "TR_ADDRESS_IN_USE",
      message: expect.stringContaining(`127.0.0.1:${port}`),
    });
    other.close();
  });

  it("answers a reload with what it did, what waits for the next start, and what keeps it from being done", async () => {
    await using served = await ServedAgent.start({ api: { address: "127.0.0.1:0", token: "sesame" } });
    const order = async (command: object) => {
      const options = { method: "POST", body: JSON.stringify(command), headers: { authorization: "Bearer sesame" } };
      const { status, body } = await served.ask("/api/commands", options);
      return { status, ...(JSON.parse(body) as { message: string; code?: string; changes?: readonly string[] }) };
    };
    const reload = () => order({ command: "reload" });
    expect(await reload()).toEqual({ status: 200, message: "nothing is different", changes: [] });
    served.config = { api: { address: "127.0.0.1:0", token: "open" } };
    const later = "api has changed; that takes effect at the next start";
    expect(await reload()).toEqual({ status: 200, message: later, changes: [later] });
    const out = { type: "file", inputs: ["app"], path: served.output };
    const second = { ...out, path: join(served.folder, "second") };
    served.config = { api: { address: "127.0.0.1:0", token: "sesame" }, sinks: { out, second } };
    const { message, changes } = await reload();
    expect(changes).toEqual(["second is new", "app goes other ways", later]);
    expect(message).toBe(`second is new, app goes other ways. ${later}`);

    served.config = { ...served.config, sinks: { out, other: { ...out, path: "/proc/none/x" } } };
    const unreachable = await reload();
    expect(unreachable).toMatchObject({ status: 502, code: "TR_STAGE_OPEN" });
    expect(unreachable.message).toMatch(/^other: /);
    served.config = { ...served.config, sinks: { out: { ...out, inputs: ["nobody"] } } };
    expect((await reload()).status).toBe(400);
    // The log of this one has no level that could be set.
    expect(await order({ command: "set_log_level", level: "debug" })).toMatchObject({ status: 400, code: "TR_USAGE" });

    const { paths } = await served.json<OpenApi>("/api/openapi.json");
    expect(paths["/api/commands"]!["post"]!.responses).toMatchObject({
      400: {},
      500: {},
      502: { description: expect.stringContaining("cannot be opened") },
      503: { description: expect.stringMatching(/starting or stopping.*Too many commands/) },
    });
  });

  it("describes every path that it answers, and answers every path that it describes", async () => {
    await using served = await ServedAgent.start();
    const { paths } = await served.json<OpenApi>("/api/openapi.json");
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, { responses }] of Object.entries(methods)) {
        // The stream has no end, and a path that takes a parameter says so.
        if (path === "/api/events") continue;
        const { status } = await served.ask(path, { method: method.toUpperCase() });
        expect(Object.keys(responses), `${method} ${path}`).toContain(String(status));
      }
    }
    expect((await served.ask("/api/nothing")).status).toBe(404);
    expect((await served.ask("/")).headers["content-security-policy"]).toContain("default-src 'none'");
  });

  it("refuses bodies and questions that are wrong, with the reason", async () => {
    await using served = await ServedAgent.start({ api: { address: "127.0.0.1:0", token: "sesame" } });
    const headers = { authorization: "Bearer sesame" };
    const post = (path: string, body: string) => served.ask(path, { method: "POST", body, headers });
    expect(await post("/api/dlq/purge", "{")).toMatchObject({ status: 400, body: expect.stringContaining("no JSON") });
    expect((await post("/api/dlq/purge", '{"ids":[1]}')).status).toBe(400);
    expect((await post("/api/dlq/purge", '{"ids":[],"all":true}')).status).toBe(400);
    // Who has not sent all of it when the server hangs up may see that before the answer.
    const large = `{"ids":["${"x".repeat(5 * 1024 * 1024)}"]}`;
    await expect.poll(async () => (await post("/api/dlq/purge", large).catch(() => undefined))?.status).toBe(413);
    expect((await served.ask("/api/why")).status).toBe(400);
    expect((await served.ask("/api/dead-letters?limit=0")).status).toBe(400);
  });
});

describe("API › events", () => {
  it("streams what happens, numbered, up to the last phase of the shutdown", async () => {
    const served = await ServedAgent.start();
    const stream = await served.answerOf("/api/events");
    expect(stream.headers["content-type"]).toContain("text/event-stream");
    const seen: LifecycleEvent[] = [];
    const reading = (async () => {
      for await (const event of eventsOf(stream)) seen.push(event);
    })();
    served.append("one\n");
    await until(() => seen.some(({ event }) => event === "commit"), "a commit");
    served.agent.stop("test");
    await served.ended;
    await reading;
    expect(seen.find(({ event }) => event === "file_opened")).toMatchObject({
      level: "info",
      component: "app",
      facts: { file: join(served.folder, "logs", "a.log"), offset: 0 },
    });
    expect(seen.flatMap((event) => (event.event === "shutdown_phase" ? [event.facts.phase] : []))).toEqual([
      "draining",
      "closing",
      "ended",
    ]);
    for (const { event, level } of seen) expect(level).toBe(EVENTS[event].level);
    const numbers = seen.map(({ number }) => number);
    expect(numbers).toEqual(numbers.map((_, index) => numbers[0]! + index));
    // The same is readable in the log.
    const logged = served.log.filter(({ fields }) => "event" in fields);
    for (const { event, component } of seen)
      expect(logged).toContainEqual(expect.objectContaining({ fields: expect.objectContaining({ event, component }) }));
    await served[Symbol.asyncDispose]();
  });

  it("serves the library, and a loop that is left hangs up", async () => {
    await using served = await ServedAgent.start();
    const seen: string[] = [];
    const listening = (async () => {
      for await (const event of served.agent.events()) {
        seen.push(event.event);
        if (event.event === "commit") break;
      }
    })();
    served.append("one\n");
    await listening;
    expect(seen).toContain("file_opened");
  });

  it("tells when a sink goes down and comes up", async () => {
    let isDown = true;
    const flaky = defineSink({
      type: "flaky",
      summary: "Fails as told.",
      options: z.strictObject({ inputs: z.unknown().optional() }),
      guarantee: "at_least_once",
      open: async () => ({
        write: async () => (isDown ? { kind: "retry", reason: "as told" } : { kind: "delivered" }),
        async [Symbol.asyncDispose]() {},
      }),
    });
    await using served = await ServedAgent.start(
      { sinks: { out: { type: "flaky", inputs: ["app"] } } },
      { sinks: [flaky] },
    );
    using events = served.agent.events();
    const next = async (name: string) => {
      for (;;) {
        const event = await events.recv();
        if (event?.event === name) return event;
      }
    };
    served.append("one\n");
    expect(await next("sink_down")).toMatchObject({ component: "out", level: "warn", facts: { reason: "as told" } });
    isDown = false;
    expect(await next("sink_up")).toMatchObject({ component: "out", level: "info" });
  });
});
