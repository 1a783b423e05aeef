import { appendFileSync, closeSync, existsSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { type Agent, CrashMachine, type Exit, orSkip, unprivileged, until } from "./machine.ts";

const WITH_BROKEN_STAGES = fileURLToPath(new URL("./tailrace-with-broken-stages.mjs", import.meta.url));

const lines = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}\n`).join("");

/** A configuration with a state directory, no API, and what the test says. */
function configured(machine: CrashMachine, body: string, stateDir = machine.stateDir): string {
  const path = join(machine.folder, "tailrace.toml");
  writeFileSync(path, `state_dir = ${JSON.stringify(stateDir)}\n[api]\nenabled = false\n${body}\n`);
  return path;
}

const fileSource = (machine: CrashMachine) => `[sources.app]
type = "file"
include = [${JSON.stringify(join(machine.logs, "*.log"))}]
scan_interval_ms = 50
`;

const fileSink = (machine: CrashMachine, inputs: string) => `[sinks.out]
type = "file"
inputs = ["${inputs}"]
path = ${JSON.stringify(machine.output)}
encoding = "raw"
`;

const brokenAgent = (machine: CrashMachine, config: string, ...flags: string[]) =>
  machine.agentIn({ script: WITH_BROKEN_STAGES }, config, ...flags);

/** The end that every failure has: its exit code, one line that says what, no stack trace, and a report of all stages. */
function expectFailure(
  agent: Agent,
  exit: Exit,
  failure: string | RegExp,
  report: readonly string[] = ["app", "out"],
): void {
  expect(exit.code, exit.stderr).toBe(1);
  const start = "Pipeline error received: ";
  const received = agent.log.find(({ msg }) => msg.startsWith(start))?.msg.slice(start.length);
  expect(received, exit.stderr).toBeDefined();
  if (typeof failure === "string") expect(received).toBe(failure);
  else expect(received).toMatch(failure);
  expect(exit.stderr).not.toMatch(/"stack"|\n {4}at /);
  expectReport(agent, report);
}

function expectReport(agent: Agent, stages: readonly string[]): void {
  const said = agent.log.map(({ component, msg }) => `${component} ${msg}`).join("\n");
  for (const stage of stages)
    expect(said).toMatch(new RegExp(`^${stage} ${stage}: \\d+ records (delivered|\\(\\d+ bytes\\) read; )`, "m"));
}

const reportOf = (agent: Agent, stage: string) =>
  agent.log.findLast(({ component, msg }) => component === stage && / records /.test(msg));

/** A server that answers with `status`, or, while that is 0, not at all. */
async function server(status: number) {
  const state = { status, requests: 0, bodies: [] as string[] };
  const listening = createServer((request, response) => {
    state.requests += 1;
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      if (state.status === 0) return;
      if (state.status < 300) state.bodies.push(Buffer.concat(chunks).toString());
      response.writeHead(state.status).end();
    });
  });
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
  const { port } = listening.address() as AddressInfo;
  return {
    state,
    sink: (inputs: string) => `[sinks.out]
type = "http"
inputs = ["${inputs}"]
url = "http://127.0.0.1:${port}/"
encoding = "raw"
[sinks.out.retry]
initial_ms = 10
max_ms = 20
`,
    [Symbol.dispose]() {
      listening.closeAllConnections();
      listening.close();
    },
  };
}

describe("agent › before anything is started", () => {
  it("ends with 2 at a wrong configuration: every mistake in a line of its own, with its place; nothing is made", async () => {
    await using machine = new CrashMachine();
    const config = configured(
      machine,
      `${fileSource(machine)}max_line_byte = 5\n${fileSink(machine, "nobody")}[mpsc_channels.components.out]\nbuffer_size = 0`,
    );
    const exit = await machine.agent(config).end();
    expect(exit.code, exit.stderr).toBe(2);
    const said = exit.stderr.trimEnd().split("\n");
    expect(said).toHaveLength(4);
    for (const line of said) expect(line).toMatch(/^error: .*tailrace\.toml:\d+: /);
    expect(said[0]).toContain("nobody reads this source");
    expect(said[1]).toMatch(/max_line_byte: .*`max_line_bytes`/);
    expect(said[2]).toContain('there is no component "nobody"');
    expect(said[3]).toContain("buffer_size: is 0");
    expect(existsSync(machine.stateDir)).toBe(false);
    expect(machine.outputNames()).toEqual([]);
  });

  it("ends with 2 where a privilege is missing, says which, and touches nothing", async (context) => {
    await using machine = new CrashMachine();
    const through = orSkip(context, unprivileged(), "the right to give up capabilities");
    const firstFreePort = Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8"));
    orSkip(context, firstFreePort > 80 || undefined, "a kernel where port 80 needs a privilege");
    const config = configured(machine, `address = "127.0.0.1:80"\n${fileSource(machine)}${fileSink(machine, "app")}`);
    const exit = await machine.agentIn({ through }, config, "--set", "api.enabled=true").end();
    expect(exit.code, exit.stderr).toBe(2);
    expect(exit.stderr).toMatch(/^error: api\.address: .*127\.0\.0\.1:80.*CAP_NET_BIND_SERVICE\n$/);
    expect(existsSync(machine.stateDir)).toBe(false);
    expect(machine.outputNames()).toEqual([]);
  });

  it("ends with 1 where a stage cannot be opened, with one line that names it and its target; nothing is read", async () => {
    await using machine = new CrashMachine();
    writeFileSync(join(machine.logs, "a.log"), lines(1, 3));
    const first = configured(
      machine,
      `${fileSource(machine)}${fileSink(machine, "app")}[sinks.other]\ntype = "file"\ninputs = ["app"]\npath = "/proc/none/x"`,
    );
    const exit = await machine.agent(first).end();
    expect(exit.code, exit.stderr).toBe(1);
    expect(exit.stderr).toMatch(/^error: other: \/proc\/none\/x cannot be opened: .*\n$/);
    expect(machine.outputBytes()).toBe(0);
    const mended = configured(machine, fileSource(machine) + fileSink(machine, "app"));
    expect((await machine.agent(mended, "--once").end()).code).toBe(0);
    expect(machine.outputLines()).toEqual(["line 1", "line 2", "line 3"]);
  });
});

describe("agent › an error while it runs", () => {
  it("ends with 1 when a source fails", async () => {
    await using machine = new CrashMachine();
    const config = configured(
      machine,
      `[sources.app]\ntype = "broken_source"\nfails = "at_once"\n${fileSink(machine, "app")}`,
    );
    const agent = brokenAgent(machine, config);
    expect((await agent.end()).code).toBe(1);
    expect(agent.stderr).toContain("Pipeline error received: app: the device is gone");
    expectReport(agent, ["app", "out"]);
  });

  it("ends with 1 when standard input cannot be read", async () => {
    await using machine = new CrashMachine();
    const config = configured(machine, `[sources.app]\ntype = "stdin"\n${fileSink(machine, "app")}`);
    const stdin = openSync(join(machine.folder, "write-only"), "w");
    const agent = machine.agentIn({ stdin }, config);
    const exit = await agent.end();
    closeSync(stdin);
    expectFailure(agent, exit, "app: cannot read standard input: EBADF: bad file descriptor, read");
  });

  it("ends with 1 when somebody else writes into the output, and cuts nothing of that", async () => {
    await using machine = new CrashMachine();
    const agent = machine.agent(configured(machine, fileSource(machine) + fileSink(machine, "app")));
    writeFileSync(join(machine.logs, "a.log"), lines(1, 3));
    await until(() => agent.isOver || machine.outputHas("line 3"), "the first lines");
    appendFileSync(machine.output, "foreign\n");
    appendFileSync(join(machine.logs, "a.log"), lines(4, 5));
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(1);
    expect(exit.stderr).toMatch(/Pipeline error received: out: .*somebody else writes to it; stop that, and move/);
    expect(exit.stderr).not.toContain('"stack"');
    expectReport(agent, ["app", "out"]);
    expect(machine.outputHas("foreign\n")).toBe(true);
  });

  it("ends with 1 when a sink breaks its contract and throws", async () => {
    await using machine = new CrashMachine();
    writeFileSync(join(machine.logs, "a.log"), lines(1, 3));
    const config = configured(
      machine,
      `${fileSource(machine)}[sinks.out]\ntype = "broken_sink"\ninputs = ["app"]\nfails = "at_write"`,
    );
    const agent = brokenAgent(machine, config, "--once");
    expect((await agent.end()).code).toBe(1);
    expect(agent.stderr).toContain("Pipeline error received: out: the wire is cut");
    expect(reportOf(agent, "app")).toMatchObject({ records: 3, uncommitted_bytes: 21, unread_bytes: 0 });
  });

  it("ends with 1 when a transform throws; mended, it goes on with the same records", async () => {
    await using machine = new CrashMachine();
    writeFileSync(join(machine.logs, "a.log"), "one\nbad\ntwo\n");
    const config = configured(
      machine,
      `${fileSource(machine)}[transforms.shape]\ntype = "broken_transform"\ninputs = ["app"]\n${fileSink(machine, "shape")}`,
    );
    const agent = brokenAgent(machine, config);
    expect((await agent.end()).code).toBe(1);
    expect(agent.stderr).toContain("Pipeline error received: shape: event.user is undefined");
    expect(reportOf(agent, "app")!.msg).toBe(
      "app: 3 records (12 bytes) read; 12 bytes are left for the next start: 12 read and not committed, 0 not read",
    );
    const env = { MENDED: "yes" };
    const again = machine.agentIn({ script: WITH_BROKEN_STAGES, env }, config, "--once");
    expect((await again.end()).code).toBe(0);
    expect(machine.outputLines()).toEqual(["one", "bad", "two"]);
    expect(reportOf(again, "app")!.msg).toBe("app: 3 records (12 bytes) read; nothing is left for the next start");
  });

  it("ends with 1 when an input with the policy `error` is full, and names the component", async () => {
    await using machine = new CrashMachine();
    const channel = `[mpsc_channels.components.out]\nbuffer_size = 1\noverflow = "error"\n`;
    const config = configured(
      machine,
      `[shutdown]\ngraceful_timeout_ms = 200\n${fileSource(machine)}[sinks.out]\ntype = "broken_sink"\ninputs = ["app"]\nfails = "hangs_at_write"\n${channel}`,
    );
    for (const name of ["a", "b", "c", "d"]) writeFileSync(join(machine.logs, `${name}.log`), lines(1, 3));
    const agent = brokenAgent(machine, config);
    const exit = await agent.end();
    expectFailure(agent, exit, "out: its input channel is full and its overflow policy is `error`");
    expect(agent.log.find(({ level }) => level === "error")).toMatchObject({
      component: "out",
      code: "TR_CHANNEL_FULL",
    });
  });

  it.each([
    { what: "a rejection that nobody handles", code: `Promise.reject(new Error("of the module"))` },
    { what: "an exception in a timer", code: `setTimeout(() => { throw new Error("of the module"); }, 0)` },
  ])("ends with 1 at $what of a map module, once all is delivered", async ({ code }) => {
    await using machine = new CrashMachine();
    const module = join(machine.folder, "shape.js");
    writeFileSync(module, `export default (event) => { if (event.message === "bad") ${code}; return event; };\n`);
    writeFileSync(join(machine.logs, "a.log"), "one\nbad\ntwo\n");
    const config = configured(
      machine,
      `${fileSource(machine)}[transforms.shape]\ntype = "map"\ninputs = ["app"]\nmodule = "${module}"\n${fileSink(machine, "shape")}`,
    );
    const agent = machine.agent(config);
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(1);
    // Where it came from is all that helps here.
    expect(agent.log.find(({ level }) => level === "error")).toMatchObject({
      msg: "Pipeline error received: process: of the module",
      err: { stack: expect.stringContaining("shape.js") },
    });
    expectReport(agent, ["app", "out"]);
    expect((await machine.agent(config, "--once", "--set", "sources.app.scan_interval_ms=60").end()).code).toBe(0);
    expect(machine.outputLines()).toEqual(["one", "bad", "two"].map((message) => expect.stringContaining(message)));
  });

  it("makes a dead letter of what a map module throws at, and ends with 0", async () => {
    await using machine = new CrashMachine();
    const module = join(machine.folder, "shape.js");
    writeFileSync(module, `export default (event) => { if (event.message === "bad") throw new Error("no user"); };\n`);
    writeFileSync(join(machine.logs, "a.log"), "one\nbad\n");
    const config = configured(
      machine,
      `${fileSource(machine)}[transforms.shape]\ntype = "map"\ninputs = ["app"]\nmodule = "${module}"\n${fileSink(machine, "shape")}`,
    );
    const agent = machine.agent(config, "--once");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(reportOf(agent, "out")).toMatchObject({
      delivered: 0,
      filtered: 1,
      dead_lettered: 1,
      msg: "out: 0 records delivered, 1 filtered, 1 dead-lettered",
    });
  });
});

describe("agent › an error while it shuts down", () => {
  it("ends with 1 when a stage fails on the way out of a signal, also though all else drains", async () => {
    await using machine = new CrashMachine();
    const config = configured(
      machine,
      `[sources.app]\ntype = "broken_source"\nfails = "when_stopped"\n${fileSink(machine, "app")}`,
    );
    const agent = brokenAgent(machine, config);
    await until(() => agent.hasSaid("memory ceiling"), "the start");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(1);
    expect(agent.stderr).toContain("Pipeline error received: app: the device is gone");
    expect(agent.stderr).toContain("Graceful shutdown complete");
    expectReport(agent, ["app", "out"]);
  });

  it.each([
    { what: "an error", fails: "at_once", signal: undefined },
    { what: "an error on the way out of a signal", fails: "when_stopped", signal: "SIGTERM" as const },
  ])(
    "forces the end with 1 after graceful_timeout_ms when the shutdown hangs after $what",
    async ({ fails, signal }) => {
      await using machine = new CrashMachine();
      const config = configured(
        machine,
        `[shutdown]\ngraceful_timeout_ms = 300\n[sources.app]\ntype = "broken_source"\nfails = "${fails}"\n[sinks.out]\ntype = "broken_sink"\ninputs = ["app"]\nfails = "hangs_at_close"`,
      );
      const agent = brokenAgent(machine, config);
      if (signal !== undefined) {
        await until(() => agent.hasSaid("memory ceiling"), "the start");
        agent.signal(signal);
      }
      expect((await agent.end()).code).toBe(1);
      const errors = agent.log.filter(({ level }) => level === "error");
      expect(errors.map(({ msg }) => msg)).toEqual([
        "Pipeline error received: app: the device is gone",
        "Graceful shutdown timeout expired, forcing shutdown",
      ]);
      const tookMs = Date.parse(String(errors[1]!["time"])) - Date.parse(String(errors[0]!["time"]));
      expect(tookMs).toBeGreaterThanOrEqual(290);
      expectReport(agent, ["app", "out"]);
    },
  );

  it("ends at once with 1 at a second signal, of whichever kind, and still reports", async () => {
    await using machine = new CrashMachine();
    writeFileSync(join(machine.logs, "a.log"), lines(1, 3));
    const config = configured(
      machine,
      `${fileSource(machine)}[sinks.out]\ntype = "broken_sink"\ninputs = ["app"]\nfails = "hangs_at_write"`,
    );
    const agent = brokenAgent(machine, config);
    await until(() => agent.hasSaid("hanging"), "the first write");
    agent.signal("SIGTERM");
    await until(() => agent.hasSaid("waiting for out"), "word of what it waits for");
    agent.signal("SIGINT");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(1);
    expect(exit.stderr).toContain("Received SIGINT again, forcing shutdown");
    expect(reportOf(agent, "app")).toMatchObject({ uncommitted_bytes: 21, unread_bytes: 0 });
  });

  const manyFiles = Array.from({ length: 300 }, (_, file) => `${file}.log`);

  it("ends with 1 when the last commit fails; what it did not save is neither lost nor doubled", async (context) => {
    await using machine = new CrashMachine();
    // Too small for the reserve, whose very purpose is this commit.
    const disk = orSkip(context, machine.disk("small", 15 << 20), "the right to mount a tmpfs");
    const stateDir = join(disk.path, "state");
    const config = configured(machine, fileSource(machine) + fileSink(machine, "app"), stateDir);
    for (const name of manyFiles) writeFileSync(join(machine.logs, name), `${name} first\n`);
    const first = await machine.agent(config, "--once").end();
    expect(first.code, first.stderr).toBe(0);
    // One commit of everything at the end: larger than any before, and the store has kept room for those only.
    const agent = machine.agent(config, "--set", "checkpoint.commit_interval_ms=60000");
    await until(() => agent.hasSaid("memory ceiling"), "the start");
    disk.fill();
    for (const name of manyFiles) appendFileSync(join(machine.logs, name), `${name} second\n`);
    await until(() => agent.isOver || machine.outputLines().length === 600, "all second lines");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expectFailure(agent, exit, /^checkpoint: the checkpoint could not be written to .*ENOSPC/);
    const bytes = manyFiles.join(" second\n").length + " second\n".length;
    expect(reportOf(agent, "app")).toMatchObject({ uncommitted_bytes: bytes, unread_bytes: 0 });
    expect(reportOf(agent, "out")).toMatchObject({ delivered: 300, acknowledged: 0 });
    disk.free();
    const again = machine.agent(config, "--once");
    expect((await again.end()).code, again.stderr).toBe(0);
    expect(machine.outputLines().sort()).toEqual(
      manyFiles.flatMap((name) => [`${name} first`, `${name} second`]).sort(),
    );
    expect(reportOf(again, "app")).toMatchObject({ uncommitted_bytes: 0, unread_bytes: 0 });
  });

  it("saves everything on a full disk with the reserve, and ends with 0", async (context) => {
    await using machine = new CrashMachine();
    const disk = orSkip(context, machine.disk("disk", 32 << 20), "the right to mount a tmpfs");
    const stateDir = join(disk.path, "state");
    const config = configured(machine, fileSource(machine) + fileSink(machine, "app"), stateDir);
    const agent = machine.agent(config);
    const reserve = join(stateDir, "reserve");
    await until(
      () => agent.hasSaid("memory ceiling") && (statSync(reserve, { throwIfNoEntry: false })?.size ?? 0) >= 16 << 20,
      "the reserve",
    );
    disk.fill();
    // A store that need not grow commits on a full disk too; with so many new files it must.
    for (const name of manyFiles) writeFileSync(join(machine.logs, name), `${name}\n`);
    await until(() => agent.hasSaid("the checkpoint cannot be written"), "a commit that fails");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(reportOf(agent, "app")).toMatchObject({ uncommitted_bytes: 0 });
    disk.free();
    expect((await machine.agent(config, "--once").end()).code).toBe(0);
    expect(machine.outputLines().sort()).toEqual([...manyFiles].sort());
  });
});

describe("agent › a sink that does not acknowledge", () => {
  it("is let go after sink_grace_ms: exit 0, and its batches are read again at the next start", async () => {
    await using machine = new CrashMachine();
    using target = await server(0);
    writeFileSync(join(machine.logs, "a.log"), lines(1, 3));
    const config = configured(machine, `[shutdown]\nsink_grace_ms = 300\n${fileSource(machine)}${target.sink("app")}`);
    const agent = machine.agent(config);
    await until(() => agent.isOver || target.state.requests > 0, "the first request");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(exit.stderr).toContain("sink_grace_ms is over");
    expect(reportOf(agent, "app")).toMatchObject({ records: 3, uncommitted_bytes: 21 });
    expect(reportOf(agent, "out")).toMatchObject({ delivered: 0 });
    target.state.status = 200;
    expect((await machine.agent(config, "--once").end()).code).toBe(0);
    expect(target.state.bodies.join("")).toBe(lines(1, 3));
  });

  it("costs exit code 1 where the source cannot repeat", async () => {
    await using machine = new CrashMachine();
    using target = await server(0);
    const input = join(machine.folder, "input");
    writeFileSync(input, lines(1, 3));
    const stdin = openSync(input, "r");
    const config = configured(
      machine,
      `[shutdown]\nsink_grace_ms = 300\n[sources.app]\ntype = "stdin"\n${target.sink("app")}`,
    );
    const agent = machine.agentIn({ stdin }, config);
    await until(() => agent.isOver || target.state.requests > 0, "the first request");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    closeSync(stdin);
    expectFailure(
      agent,
      exit,
      "shutdown: what was not acknowledged is lost as far as it comes from app: that cannot be read again",
    );
  });

  it("is waited for with --once as well", async () => {
    await using machine = new CrashMachine();
    using target = await server(503);
    writeFileSync(join(machine.logs, "a.log"), lines(1, 3));
    const agent = machine.agent(configured(machine, fileSource(machine) + target.sink("app")), "--once");
    await until(() => agent.isOver || target.state.requests >= 5, "some tries");
    expect(agent.isOver, agent.stderr).toBe(false);
    expect(agent.hasSaid("out does not take records: ")).toBe(true);
    target.state.status = 200;
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(target.state.bodies.join("")).toBe(lines(1, 3));
    expectReport(agent, ["app", "out"]);
  });
});
