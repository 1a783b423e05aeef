import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { orSkip, unprivileged } from "../crash/machine.ts";

const TAILRACE = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-refused-"));
  mkdirSync(join(folder, "in"));
  write("in/a.log", "x\n");
});
afterEach(() => rmSync(folder, { recursive: true }));

const write = (name: string, text: string) => writeFileSync(join(folder, name), text);

/** The lines of its configuration behind a source of `in/a.log`; `sinks` begins in line 7. */
function configure(sinks: string): void {
  write(
    "tailrace.toml",
    `state_dir = "./state"
[api]
enabled = false
[sources.app]
type = "file"
include = ["./in/a.log"]
${sinks}`,
  );
}

function tailrace(args: readonly string[], through: readonly string[] = []) {
  const [program, ...rest] = [...through, process.execPath, TAILRACE, ...args];
  const { status, stdout, stderr } = spawnSync(program!, rest, { cwd: folder, encoding: "utf8" });
  return { status, stderr, all: stdout + stderr };
}

const OUT = '[sinks.out]\ntype = "file"\ninputs = ["app"]\npath = "./out/out.ndjson"\n';

describe("what a configuration names outside of itself", () => {
  const shape = (module: string) =>
    `${OUT}[transforms.shape]\ntype = "map"\ninputs = ["app"]\nmodule = "${module}"\n[sinks.two]\ntype = "blackhole"\ninputs = ["shape"]\n`;
  const work = (module: string) => `${OUT}[sinks.work]\ntype = "handler"\ninputs = ["app"]\nmodule = "${module}"\n`;
  const send = (tls: string) =>
    `${OUT}[sinks.send]\ntype = "tcp"\ninputs = ["app"]\naddress = "localhost:1"\ntls = { enabled = true, ${tls} }\n`;

  it.each([
    ["a map's module that is not there", shape("./none.ts"), /:14: transforms\.shape\.module: .*there is no such file/],
    ["a map's module that throws", shape("./throws.ts"), /:14: transforms\.shape\.module: .*throws\.ts:2: .*not today/],
    ["a map's module without a function", shape("./nothing.ts"), /:14: transforms\.shape\.module: .*default export/],
    ["a handler's module that is not there", work("./none.ts"), /:14: sinks\.work\.module: .*there is no such file/],
    ["a handler's module without a function", work("./nothing.ts"), /:14: sinks\.work\.module: .*default export/],
    ["authorities that are not there", send('ca = "./none.pem"'), /:15: sinks\.send\.tls\.ca: .*none\.pem/],
    ["authorities that are none", send('ca = "./nothing.ts"'), /:15: sinks\.send\.tls: .*holds no certificate/],
    ["a key that is not there", send('cert = "./nothing.ts", key = "./none.pem"'), /:15: sinks\.send\.tls\.key: /],
  ])("is refused before anything is touched: %s", (_, sinks, mistake) => {
    write("throws.ts", '\nthrow new Error("not today");');
    write("nothing.ts", "export const other = 1;");
    configure(sinks);
    for (const args of [["validate"], ["run", "--once"]]) {
      const { status, stderr } = tailrace(args);
      expect(status, stderr).toBe(2);
      expect(stderr).toMatch(mistake);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    }
    expect(readdirSync(folder).sort()).toEqual(["in", "nothing.ts", "tailrace.toml", "throws.ts"]);
  });

  it("is asked for by nobody who runs nothing", () => {
    configure(shape("./none.ts"));
    expect(tailrace(["explain", "transforms.shape.module"]).status).toBe(0);
  });
});

describe("outputs that meet", () => {
  it("are found where only the records tell: one clear error", () => {
    const sink = (name: string, path: string) =>
      `[sinks.${name}]\ntype = "file"\ninputs = ["app"]\npath = "${path}"\nencoding = "raw"\n`;
    configure(sink("one", "./out/{source}-x.log") + sink("two", "./out/app-{message}.log"));
    expect(tailrace(["validate"]).status).toBe(0);
    const { status, stderr } = tailrace(["run", "--once", "--log-format", "json"]);
    expect(status, stderr).toBe(1);
    const complaint = /(?:one|two): .*\/out\/app-x\.log is written by another sink or process; give each its own file/;
    expect(stderr).toMatch(complaint);
  });
});

describe("validate --live", () => {
  const verdict = (path: string, type = "file", through: readonly string[] = []) => {
    configure(`[sinks.out]\ntype = "${type}"\ninputs = ["app"]\npath = "${path}"\n`);
    return tailrace(["validate", "--live"], through);
  };

  it.each([
    ["file", "x.log"],
    ["parquet", "x.parquet"],
  ])("says of a %s sink that its folder takes no files", (type, name) => {
    const { status, stderr } = verdict(`/proc/none/${name}`, type);
    expect(stderr).toMatch(/out: unreachable: .*\/proc is a view into the kernel/);
    expect(status).toBe(1);
    expect(verdict(`./out/{source}/${name}`, type)).toMatchObject({ status: 0 });
    expect(existsSync(join(folder, "out"))).toBe(false);
  });

  it("says of a folder that nothing may be written there", (context) => {
    const through = orSkip(context, unprivileged(), "the right to give up capabilities");
    mkdirSync(join(folder, "closed"), { mode: 0o555 });
    for (const [type, name] of [
      ["file", "x.log"],
      ["file", "deep/{source}.log"],
      ["parquet", "x.parquet"],
    ]) {
      const { status, stderr } = verdict(`./closed/${name}`, type, through);
      expect(stderr).toMatch(/out: unreachable: .*EACCES: permission denied.*\/closed/);
      expect(status).toBe(1);
    }
  });
});

describe("a secret in the query of an address", () => {
  it("is refused and shown nowhere", () => {
    const url = (query: string) => `sinks.pg.url=postgres://user:hunter2@127.0.0.1:1/db${query}`;
    configure('[sinks.pg]\ntype = "postgres"\ninputs = ["app"]\ntable = "logs"\nurl = "postgres://h/d"\n');
    const attempts: readonly (readonly string[])[] = [
      ["validate", "?password=hunter2"],
      ["validate", "?password=hunter2", "--json"],
      ["run", "?sslmode=require&sslpassword=hunter2", "--once"],
      ["validate", "?pass%77ord=hunter2"],
    ];
    for (const [command, query, ...flags] of attempts) {
      const { status, all } = tailrace([command!, "--set", url(query!), ...flags]);
      expect(status, all).toBe(2);
      expect(all).toContain("a password belongs in front of the @");
      expect(all).not.toContain("hunter2");
    }
    const { all } = tailrace(["validate", "--set", "sinks.pg.url=host=db password=hunter2"]);
    expect(all).toContain("this is no URL");
    expect(all).not.toContain("hunter2");
  });
});

describe("a sink that writes what its own source reads", () => {
  it("is refused with the place of both", () => {
    configure('[sinks.out]\ntype = "file"\ninputs = ["app"]\npath = "./in/../in/a.log"\n');
    const { status, stderr } = tailrace(["run", "--once"]);
    expect(status, stderr).toBe(2);
    expect(stderr).toMatch(/tailrace\.toml:10: sinks\.out\.path: sources\.app \(.*tailrace\.toml:6\) reads this file/);
  });
});
