import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { defineSink } from "../../src/stage/index.ts";
import { type LogLine, ServedAgent, until } from "./served-agent.ts";
import { noSlots } from "./slot-watch.ts";

const BIN = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));

/** A sink that takes nothing until it is closed. */
const stuck = defineSink({
  type: "stuck",
  summary: "Takes nothing, for tests.",
  guarantee: "at_least_once",
  options: z.strictObject({ encoding: z.string().optional() }),
  async open() {
    return {
      write: (_batch, { signal }) =>
        new Promise((resolve) => {
          signal.addEventListener("abort", () => resolve({ kind: "retry", reason: "stopped" }), { once: true });
        }),
      async [Symbol.asyncDispose]() {},
    };
  },
});

const rowsIn = (path: string): Record<string, unknown>[] =>
  readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

describe.skipIf(noSlots !== undefined)("agent with time slots", () => {
  it("delivers events with the names of the product contract, one per process and slot", async () => {
    await using served = await ServedAgent.start((folder) => ({
      sources: { slots: { type: "timeslots", slot_ms: 1 } },
      sinks: { out: { type: "file", inputs: ["slots"], path: join(folder, "out.ndjson") } },
    }));
    const child = spawnSync("dd", ["if=/dev/zero", "of=/dev/null", "bs=1", "count=20000"], { stdio: "ignore" });
    await until(
      () => existsSync(served.output) && readFileSync(served.output, "utf8").includes(`"pid":${child.pid},`),
      "slots of dd",
    );
    served.agent.stop("test");
    expect((await served.ended)?.exitCode).toBe(0);
    const rows = rowsIn(served.output);
    const own = rows.filter((row) => row["pid"] === child.pid);
    expect(Object.keys(own[0]!)).toEqual([
      ...["timestamp", "source", "host", "slot_start", "slot_ns", "pid", "comm", "cgroup", "cpu_ns"],
      ...["runqueue_wait_ns", "context_switches", "migrations", "page_faults", "syscalls", "block_bytes"],
      ...["net_sent_bytes", "net_received_bytes", "cycles", "instructions", "cache_misses", "complete", "lost_events"],
    ]);
    expect(own.some(({ comm }) => comm === "dd")).toBe(true);
    expect(own.reduce((sum, row) => sum + Number(row["syscalls"]), 0)).toBeGreaterThan(39_000);
    for (const row of rows) {
      expect(row["slot_start"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}000000Z$/);
      expect(row["slot_ns"]).toBe(1_000_000);
    }
    expect(new Set(rows.map(({ slot_start: start, pid }) => `${start} ${pid}`)).size).toBe(rows.length);
  });

  it("drops time slots while a sink takes none, says so once a second and at the end, and counts each", async () => {
    const started = performance.now();
    await using served = await ServedAgent.start(
      {
        sources: { slots: { type: "timeslots" } },
        sinks: { out: { type: "stuck", inputs: ["slots"] } },
        mpsc_channels: { total_bytes: 65_536 },
        shutdown: { sink_grace_ms: 100 },
      },
      { sinks: [stuck] },
    );
    const reports = () => served.log.filter(({ message }) => /^Dropped \d+ time slots in last second$/.test(message));
    await until(() => reports().length >= 2, "two reports of dropped time slots");
    const { body } = await served.ask("/metrics");
    expect(Number(/^timeslots_dropped_total(?:{[^}]*})? (\d+)/m.exec(body)?.[1])).toBeGreaterThan(0);
    served.agent.stop("test");
    // Nothing of it can be read again.
    expect((await served.ended)?.exitCode).toBe(1);
    const edge = served.agent.ledger().find(({ component }) => component === "slots")!;
    expect(edge.sent).toBe(edge.received + edge.dropped + edge.in_channel);
    const told = reports().reduce((sum: number, { fields }: LogLine) => sum + Number(fields["dropped"]), 0);
    expect(told).toBe(edge.dropped);
    expect(reports()[0]!.fields).toMatchObject({ component: "slots", channel: "tailer_payload" });
    expect(reports().length).toBeLessThanOrEqual((performance.now() - started) / 1000 + 1);
  });
});

const isRoot = process.getuid?.() === 0;
const canDrop =
  isRoot && existsSync(BIN) && existsSync(join(BIN, "../../dist")) && spawnSync("setpriv", ["--version"]).status === 0;
if (!canDrop) {
  if (process.env["CI"] === "true") throw new Error("CI must have root, setpriv and a build");
  console.warn("SKIPPED: tests of time slots without privileges (they need root, setpriv and a build)");
}

describe.skipIf(!canDrop || noSlots !== undefined)("time slots of a process that is not root", () => {
  /** Runs the command line as nobody, with these capabilities. */
  function nobody(folder: string, capabilities: string, ...args: string[]) {
    const drop = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    const keep = [`--inh-caps=${capabilities}`, `--ambient-caps=${capabilities}`];
    return ["setpriv", [...drop, ...keep, process.execPath, BIN, ...args], { cwd: folder, encoding: "utf8" }] as const;
  }

  function workplace() {
    const folder = mkdtempSync(join(tmpdir(), "tailrace-nobody-"));
    chmodSync(folder, 0o777);
    writeFileSync(
      join(folder, "tailrace.toml"),
      `state_dir = "./state"\n[api]\nenabled = false\n[sources.slots]\ntype = "timeslots"\n[sinks.out]\ntype = "file"\ninputs = ["slots"]\npath = "./out.ndjson"\n`,
    );
    return { folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
  }

  it("are refused in one sentence that names what is missing, exit 2, with nothing started; validate --live says it too", () => {
    for (const [capabilities, missing] of [
      ["-all", "CAP_BPF and CAP_PERFMON"],
      ["-all,+bpf", "CAP_PERFMON"],
      ["-all,+perfmon", "CAP_BPF"],
    ] as const) {
      using place = workplace();
      const run = spawnSync(...nobody(place.folder, capabilities, "run"));
      expect(run.status).toBe(2);
      expect(run.stderr).toMatch(
        new RegExp(`^error: sources\\.slots: time slots come from eBPF, .* this process lacks ${missing} .*\\n$`),
      );
      const validate = spawnSync(...nobody(place.folder, capabilities, "validate", "--live"));
      expect([validate.status, validate.stdout + validate.stderr]).toEqual([
        1,
        expect.stringContaining(`lacks ${missing} `),
      ]);
      expect(readdirSync(place.folder)).toEqual(["tailrace.toml"]);
    }
  });

  it("come with CAP_BPF and CAP_PERFMON alone", async () => {
    using place = workplace();
    expect(spawnSync(...nobody(place.folder, "-all,+bpf,+perfmon", "validate", "--live")).status).toBe(0);
    const [command, args, options] = nobody(place.folder, "-all,+bpf,+perfmon", "run");
    const child = spawn(command, args, { ...options, stdio: "ignore" });
    const gone = new Promise((resolve) => child.once("exit", resolve));
    const output = join(place.folder, "out.ndjson");
    try {
      await until(() => existsSync(output) && readFileSync(output, "utf8").split("\n").length > 100, "time slots");
    } finally {
      child.kill("SIGTERM");
    }
    expect(await gone).toBe(0);
    expect(rowsIn(output).every(({ complete }) => complete === true)).toBe(true);
  });
});
