import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { LedgerEdge } from "../../src/agent/ledger.ts";
import { openLmdbStore } from "../../src/checkpoint/index.ts";
import { until } from "./served-agent.ts";

const BIN = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));

/** One run of the real command line. */
class Command {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  out = "";
  err = "";

  constructor(args: readonly string[], cwd: string) {
    this.child = spawn(process.execPath, [BIN, ...args], { cwd, stdio: ["pipe", "pipe", "pipe"] });
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => (this.out += text));
    this.child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.err += text));
    this.ended = once(this.child, "close").then(([code]) => code as number | null);
  }
}

/** A folder with a configuration, logs, and the processes that work in it. */
class Workplace {
  readonly folder = mkdtempSync(join(tmpdir(), "tailrace-commands-"));
  readonly logs = join(this.folder, "logs");
  readonly output = join(this.folder, "out.ndjson");
  readonly #commands: Command[] = [];

  constructor(api = "enabled = false", more = "") {
    mkdirSync(this.logs);
    writeFileSync(
      join(this.folder, "tailrace.toml"),
      `state_dir = "./state"
[api]
${api}
[sources.app]
type = "file"
include = [${JSON.stringify(join(this.logs, "*.log"))}]
scan_interval_ms = 50
[sinks.out]
type = "file"
inputs = ["app"]
path = ${JSON.stringify(this.output)}
${more}
`,
    );
  }

  start(...args: string[]): Command {
    const command = new Command(args, this.folder);
    this.#commands.push(command);
    return command;
  }

  /** Runs a command to its end. */
  run(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
    return this.runWith("", ...args);
  }

  /** The same with something on its standard input. */
  async runWith(input: string, ...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
    const command = this.start(...args);
    command.child.stdin!.end(input);
    return { code: await command.ended, out: command.out, err: command.err };
  }

  /** An agent that has delivered one line. */
  async agent(...args: string[]): Promise<Command> {
    this.append("first\n");
    const agent = this.start("run", ...args);
    await until(() => agent.child.exitCode !== null || existsSync(this.output), `the agent to deliver: ${agent.err}`);
    return agent;
  }

  append(lines: string): void {
    appendFileSync(join(this.logs, "a.log"), lines);
  }

  delivered(): number {
    return existsSync(this.output) ? readFileSync(this.output, "utf8").split("\n").length - 1 : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.#commands) if (child.exitCode === null) child.kill("SIGKILL");
    await Promise.all(this.#commands.map(({ ended }) => ended));
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Inodes of the TCP sockets of a process that listen (proc(5), `net/tcp`: state 0A). */
function listeners(pid: number): string[] {
  const own = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return [];
      }
    }),
  );
  return ["tcp", "tcp6"].flatMap((kind) =>
    readFileSync(`/proc/${pid}/net/${kind}`, "utf8")
      .split("\n")
      .slice(1)
      .map((row) => row.trim().split(/\s+/))
      .filter((cells) => cells[3] === "0A" && own.has(cells[9]!))
      .map((cells) => cells[1]!),
  );
}

describe("tailrace run › API", () => {
  it("opens one TCP listener where it is enabled, and none at all where it is not", async () => {
    await using off = new Workplace("enabled = false");
    await using on = new Workplace('address = "127.0.0.1:0"');
    const [without, with_] = await Promise.all([off.agent(), on.agent()]);
    expect(listeners(without.child.pid!)).toEqual([]);
    expect(listeners(with_.child.pid!)).toHaveLength(1);
    expect(listeners(with_.child.pid!)[0]).toMatch(/^0100007F:/);
  });

  it("ends with 1 and one clear message where the address is taken, and reads nothing", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const address = `127.0.0.1:${(other.address() as AddressInfo).port}`;
    await using workplace = new Workplace(`address = "${address}"`);
    workplace.append("first\n");
    const { code, out, err } = await workplace.run("run", "--log-level", "error");
    expect([code, out]).toEqual([1, ""]);
    expect(err.trimEnd().split("\n")).toEqual([expect.stringContaining(address)]);
    expect(existsSync(workplace.output)).toBe(false);
    other.close();
  });
});

describe("tailrace audit", () => {
  const edgesOf = (out: string) => (JSON.parse(out) as { edges: LedgerEdge[] }).edges;
  const FIELDS = ["channel", "component", "dropped", "in_channel", "received", "sent"];

  it("prints the ledger of now, then that of the end, edge by edge and file by file", async () => {
    await using workplace = new Workplace();
    const agent = await workplace.agent();
    workplace.append("second\nthird\n");
    await until(() => workplace.delivered() === 3, "three lines");
    const running = await workplace.run("audit", "--json");
    expect(running.code, running.err).toBe(0);
    expect(Object.keys(JSON.parse(running.out) as object)).toEqual(["edges"]);
    for (const edge of edgesOf(running.out)) expect(Object.keys(edge).sort()).toEqual(FIELDS);
    expect(edgesOf(running.out)).toContainEqual({
      component: "out",
      channel: "input",
      sent: 3,
      received: 3,
      dropped: 0,
      in_channel: 0,
    });
    agent.child.kill("SIGTERM");
    expect(await agent.ended, agent.err).toBe(0);
    const after = await workplace.run("audit", "--json");
    expect([after.code, edgesOf(after.out)]).toEqual([0, edgesOf(running.out)]);
    const { code, out, err } = await workplace.run("audit");
    expect(code).toBe(0);
    expect(out).toMatch(/^component +channel +sent +received +dropped +in channel\n/);
    expect(out).toMatch(/^out +input +3 +3 +0 +0 +ok$/m);
    expect(out).toMatch(new RegExp(`^${join(workplace.logs, "a.log")} +app +out +19 +19 +0 +live$`, "m"));
    expect(err).toContain("it adds up (the last run)");
  });

  it("adds up after a kill: what was in channel is told as that", async () => {
    await using workplace = new Workplace();
    const agent = await workplace.agent();
    // The ledger goes with each commit.
    const committed = async () => (await workplace.run("checkpoints", "list", "--json")).out.includes('"position": 6');
    await until(committed, "the first line to be committed");
    workplace.append("a line\n".repeat(200_000));
    await until(() => workplace.delivered() > 10_000, "the middle");
    agent.child.kill("SIGKILL");
    await agent.ended;
    const { code, out, err } = await workplace.run("audit", "--json");
    expect(code, err).toBe(0);
    for (const { sent, received, dropped, in_channel } of edgesOf(out)) {
      expect(sent).toBeGreaterThan(0);
      expect(sent).toBe(received + dropped + in_channel);
    }
  });

  it("tells of a forced end what had been read until then", async () => {
    // It takes requests, and answers none.
    const target = createServer();
    await new Promise<void>((resolve) => target.listen(0, "127.0.0.1", resolve));
    const { port } = target.address() as AddressInfo;
    await using workplace = new Workplace();
    const web = `type = "http"\ninputs = ["app"]\nurl = "http://127.0.0.1:${port}/"`;
    const config = join(workplace.folder, "tailrace.toml");
    writeFileSync(config, readFileSync(config, "utf8").replace(/\[sinks\.out\][\s\S]*/, `[sinks.web]\n${web}\n`));
    const asked = once(target, "connection");
    workplace.append("one\ntwo\nthree\n");
    const agent = workplace.start("run");
    await asked;
    agent.child.kill("SIGTERM");
    await until(() => agent.err.includes("waiting for"), "the agent to wait");
    agent.child.kill("SIGTERM");
    expect(await agent.ended, agent.err).toBe(1);
    const { code, out, err } = await workplace.run("audit", "--json");
    expect(code, err).toBe(0);
    const sent = edgesOf(out).map(({ component, sent: records }) => [component, records]);
    expect(sent.sort()).toEqual([
      ["app", 3],
      ["web", 3],
    ]);
    target.close();
  });

  it("ends with 1 where it does not add up, naming the edge and how many are missing", async () => {
    await using workplace = new Workplace();
    const agent = await workplace.agent();
    agent.child.kill("SIGTERM");
    await agent.ended;
    const store = await openLmdbStore(join(workplace.folder, "state"));
    const edge = { component: "out", channel: "input", sent: 10, received: 7, dropped: 1, in_channel: 0 };
    await store.commit([{ table: "note", name: "ledger", value: { edges: [edge] } }]);
    await store.close();
    for (const flags of [[], ["--json"]]) {
      const { code, err } = await workplace.run("audit", ...flags);
      expect([code, err]).toEqual([1, "error: out/input: 2 records are missing\n"]);
    }
  });

  it("says that no run has left a ledger, and makes nothing", async () => {
    await using workplace = new Workplace();
    const { code, out } = await workplace.run("audit", "--json");
    expect([code, JSON.parse(out)]).toEqual([0, { edges: [] }]);
    expect(existsSync(join(workplace.folder, "state"))).toBe(false);
  });
});

describe("tailrace tap", () => {
  const messages = (out: string) =>
    out.split("\n").flatMap((line) => (line === "" ? [] : (JSON.parse(line) as { message: string }).message));

  it("shows records of a source and of a sink as NDJSON, and ends after its limit", async () => {
    await using workplace = new Workplace();
    await workplace.agent();
    const taps = [workplace.start("tap", "app", "--limit", "2"), workplace.start("tap", "out", "--limit", "2")];
    let lines = 0;
    await until(() => {
      lines += 1;
      workplace.append(`line ${lines}\n`);
      return taps.every(({ child }) => child.exitCode !== null);
    }, "the taps to end");
    for (const tap of taps) {
      expect(await tap.ended, tap.err).toBe(0);
      const [one, other] = messages(tap.out).map((message) => Number(message.slice("line ".length)));
      expect(other).toBe(one! + 1);
      expect(tap.err).toBe("");
    }
  });

  it("leaves out what comes too fast, tells how many at the end, and holds nobody up", async () => {
    await using workplace = new Workplace();
    await workplace.agent();
    const tap = workplace.start("tap", "app");
    await until(() => {
      workplace.append("warm up\n");
      return tap.out !== "";
    }, "the tap to begin");
    workplace.append("a line\n".repeat(300_000));
    await until(() => workplace.delivered() > 300_000, "all of it to be delivered");
    await until(() => messages(tap.out).length > 1000, "the tap to show some");
    tap.child.kill("SIGINT");
    expect(await tap.ended).toBe(0);
    const [, skipped = "", shown = ""] =
      /^note: ([\d,]+) records were left out, beside ([\d,]+) shown/.exec(tap.err) ?? [];
    const number = (text: string) => Number(text.replaceAll(",", ""));
    expect(number(shown)).toBe(messages(tap.out).length);
    expect(number(skipped)).toBeGreaterThan(1000);
    expect(number(shown) + number(skipped)).toBeLessThanOrEqual(workplace.delivered());
  });

  it("ends with the agent", async () => {
    await using workplace = new Workplace();
    const agent = await workplace.agent();
    const tap = workplace.start("tap", "app");
    await until(() => {
      workplace.append("line\n");
      return tap.out !== "";
    }, "the tap to begin");
    agent.child.kill("SIGTERM");
    expect(await tap.ended, tap.err).toBe(0);
    expect(await agent.ended).toBe(0);
  });

  it("ends with 1 when the agent is killed", async () => {
    await using workplace = new Workplace();
    const agent = await workplace.agent();
    const tap = workplace.start("tap", "app");
    await until(() => {
      workplace.append("line\n");
      return tap.out !== "";
    }, "the tap to begin");
    agent.child.kill("SIGKILL");
    expect([await tap.ended, tap.err]).toEqual([1, "error: the agent went away without a word\n"]);
  });

  it("refuses a component that there is not (2), a limit that is none (2), and a folder where no agent runs (1)", async () => {
    await using workplace = new Workplace();
    const nobody = await workplace.run("tap", "app");
    expect([nobody.code, nobody.out]).toEqual([1, ""]);
    expect(nobody.err).toContain("no agent runs");
    await workplace.agent();
    const unknown = await workplace.run("tap", "cheese");
    expect([unknown.code, unknown.err]).toEqual([2, 'error: there is no component "cheese"\n']);
    const limit = await workplace.run("tap", "app", "--limit", "0");
    expect([limit.code, limit.err]).toEqual([2, expect.stringContaining("whole number")]);
  });
});

describe("tailrace why", () => {
  const answers = (out: string) => JSON.parse(out) as { source: string; answer: string; position?: number }[];

  it("answers of a running agent and of one at rest, always with exit 0", async () => {
    await using workplace = new Workplace();
    const log = join(workplace.logs, "a.log");
    const before = await workplace.run("why", log, "--json");
    expect(before.code, before.err).toBe(0);
    expect(answers(before.out)).toMatchObject([{ source: "app", answer: expect.stringContaining("nothing is there") }]);
    expect(existsSync(join(workplace.folder, "state"))).toBe(false);
    const agent = await workplace.agent();
    await until(() => workplace.delivered() === 1, "the line");
    const running = await workplace.run("why", log, "--json");
    expect(running.code, running.err).toBe(0);
    expect(answers(running.out)).toMatchObject([
      { source: "app", path: log, position: 6, answer: expect.stringContaining("being read, at byte 6 of 6") },
    ]);
    const other = await workplace.run("why", join(workplace.logs, "a.txt"));
    expect([other.code, other.out]).toEqual([0, expect.stringContaining("no include pattern matches it")]);
    agent.child.kill("SIGTERM");
    expect(await agent.ended, agent.err).toBe(0);
    workplace.append("and more\n");
    const rest = await workplace.run("why", log);
    expect(rest.code, rest.err).toBe(0);
    expect(rest.out).toContain("the next one goes on at byte 6, with 9 bytes to read");
  });
});

describe("tailrace checkpoints", () => {
  it("reads a file anew after a reset, on a running agent too", async () => {
    await using workplace = new Workplace();
    const agent = await workplace.agent();
    await until(() => workplace.delivered() === 1, "the line");
    const reset = await workplace.run("checkpoints", "reset", join(workplace.logs, "a.log"));
    expect([reset.code, reset.err]).toEqual([0, expect.stringContaining("is read as a new file again")]);
    await until(() => workplace.delivered() === 2, "the line again");
    agent.child.kill("SIGTERM");
    expect(await agent.ended, agent.err).toBe(0);
    const again = await workplace.run("checkpoints", "reset", join(workplace.logs, "a.log"));
    expect([again.code, again.err]).toEqual([0, expect.stringContaining("is read as a new file again")]);
    expect((await workplace.run("run", "--once")).code).toBe(0);
    expect(workplace.delivered()).toBe(3);
  });

  it("imports an export into a state directory that is not there yet, and refuses a bad one before it makes anything", async () => {
    await using workplace = new Workplace();
    workplace.append("first\n");
    expect((await workplace.run("run", "--once")).code).toBe(0);
    const { out } = await workplace.run("checkpoints", "export");
    const fresh = join(workplace.folder, "new", "state");
    const bad = await workplace.runWith("no export\n", "checkpoints", "import", "--state-dir", fresh);
    expect([bad.code, existsSync(fresh)]).toEqual([2, false]);
    const { code, err } = await workplace.runWith(out, "checkpoints", "import", "--state-dir", fresh);
    expect([code, err]).toEqual([0, expect.stringContaining(`imported into ${fresh}`)]);
    expect(statSync(fresh).mode & 0o777).toBe(0o700);
    expect((await workplace.run("run", "--once", "--state-dir", fresh)).code).toBe(0);
    expect(workplace.delivered()).toBe(1);
  });

  it("forgets a sink at rest only, and says when there is none", async () => {
    await using workplace = new Workplace();
    const agent = await workplace.agent();
    const refused = await workplace.run("checkpoints", "forget", "out");
    expect([refused.code, refused.err]).toEqual([2, expect.stringContaining("stop it before")]);
    agent.child.kill("SIGTERM");
    expect(await agent.ended, agent.err).toBe(0);
    expect(await workplace.run("checkpoints", "forget", "out")).toMatchObject({ code: 0 });
    expect(await workplace.run("checkpoints", "forget", "out")).toMatchObject({ code: 1 });
  });
});
