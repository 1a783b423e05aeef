import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { SMALL, sampleStages } from "../../test/config/sample-stages.ts";
import { StageError, TailraceError } from "../errors.ts";
import { defineSink } from "../stage/index.ts";
import { type CliIo, coloursFor } from "./io.ts";
import { buildProgram, main } from "./main.ts";
import { reportError } from "./report-error.ts";

const tryable = defineSink({
  type: "tryable",
  summary: "A sink whose probe does as told.",
  options: z.strictObject({ answer: z.enum(["yes", "no", "never"]) }),
  guarantee: "at_least_once",
  open: () => Promise.reject(new Error("never opened")),
  probe(options, { name }) {
    if (options.answer === "never") return new Promise(() => {});
    if (options.answer === "yes") return Promise.resolve();
    return Promise.reject(new StageError("TR_STAGE_OPEN", name, "cannot reach http://me:pw@h/: refused"));
  },
});

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-cli-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function ioInto(out: string[], err: string[], env: CliIo["env"] = {}, isTTY = false): CliIo {
  return {
    stdout: { write: (text) => out.push(text), isTTY },
    stderr: { write: (text) => err.push(text), isTTY },
    env,
    cwd: folder,
    exitCode: 0,
    stages: { ...sampleStages, sinks: [...sampleStages.sinks, tryable] },
  };
}

async function run(args: string, env: CliIo["env"] = {}, isTTY = false): Promise<Ran> {
  const [out, err]: [string[], string[]] = [[], []];
  const code = await main(args.split(" "), ioInto(out, err, env, isTTY));
  return { code, out: out.join(""), err: err.join("") };
}

const write = (name: string, text: string) => writeFileSync(join(folder, name), text);

describe("tailrace", () => {
  it("tells wrong usage in one line on standard error, exit 2", async () => {
    write("tailrace.toml", SMALL);
    for (const [args, words] of [
      ["validat", /unknown command 'validat' \(Did you mean validate\?\)/],
      ["validate --liv", /unknown option '--liv' \(Did you mean --live\?\)/],
      ["validate more", /too many arguments/],
      ["explain", /missing required argument 'key'/],
      ["explain api -c", /argument missing/],
      ["completion ksh", /Allowed choices are bash, zsh, fish/],
      ["demo nothing", /Allowed choices are files, queue/],
      ["validat --help", /unknown command 'validat' \(Did you mean validate\?\)/],
      ["checkpoints lst --help", /unknown command 'lst' \(Did you mean list\?\)/],
      ["validate --set api.enabled", /"api\.enabled" is no setting/],
      ["explain api.adress", /unknown key "api\.adress"; did you mean `api\.address`\?/],
    ] as const) {
      const ran = await run(args);
      expect([args, ran.code, ran.out]).toEqual([args, 2, ""]);
      expect(ran.err).toMatch(words);
      expect(ran.err.trimEnd().split("\n")).toHaveLength(1);
    }
  });

  it("prints help and version on standard output, exit 0; without a command help is an error", async () => {
    const help = await run("--help");
    expect(help).toMatchObject({ code: 0, err: "" });
    for (const name of ["validate", "explain", "completion", "help"])
      expect(help.out).toMatch(new RegExp(`^  ${name} `, "m"));
    expect((await run("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(help.out).toMatch(/\nExamples:\n {2}tailrace /);
    expect((await run("help explain")).out).toContain("Usage: tailrace explain");
    expect((await run("checkpoints list --help")).code).toBe(0);
    expect((await run("tail --help")).out.replace(/\s+/g, " ")).toContain("default: info, or warn where --to is -");
    const none = await main([], ioInto([], []));
    expect(none).toBe(2);
  });

  it("gives each command help with examples, and each that needs a configuration its options", async () => {
    for (const command of buildProgram(ioInto([], [])).commands) {
      const { out, code } = await run(`${command.name()} --help`);
      expect(code).toBe(0);
      expect(out).toContain("Examples:\n");
      expect(out).toMatch(/^ {2}(source <\()?tailrace /m);
      if (!["run", "validate", "explain"].includes(command.name())) continue;
      for (const option of ["-c, --config", "-e, --env", "--set", "--state-dir"]) expect(out).toContain(option);
    }
  });

  it("paints on a terminal only, and not with NO_COLOR", () => {
    const stream = { write: () => true, isTTY: true };
    expect(coloursFor(stream, {}).red("x")).not.toBe("x");
    expect(coloursFor(stream, { NO_COLOR: "1" }).red("x")).toBe("x");
    expect(coloursFor(stream, { TERM: "dumb" }).red("x")).toBe("x");
    expect(coloursFor({ write: () => true }, {}).red("x")).toBe("x");
  });
});

describe("reportError", () => {
  const report = (thrown: unknown, env: CliIo["env"] = {}) => {
    const err: string[] = [];
    return [reportError(thrown, ioInto([], err, env)), err.join("")];
  };

  it("tells an expected failure in one line, exit 1", () => {
    expect(report(new TailraceError("TR_STATE_IN_USE", "a\nb"))).toEqual([1, "error: a b\n"]);
  });

  it("tells how to get the stack of an unexpected one", () => {
    expect(report(new TypeError("x"))).toEqual([1, "error: x (unexpected; TAILRACE_DEBUG=1 shows where)\n"]);
    expect(report(new TypeError("x"), { TAILRACE_DEBUG: "1" })[1]).toContain("main.test.ts");
    expect(report("a string")[0]).toBe(1);
  });
});

describe("validate", () => {
  it("prints the guarantee of each path and why, and creates nothing", async () => {
    write("tailrace.toml", SMALL);
    const ran = await run("validate");
    expect(ran).toEqual({
      code: 0,
      out: "app -> out: exactly once\n  a file source can be read again from any position\n  a file sink stores what it holds together with its position\n",
      err: "",
    });
    expect(readdirSync(folder)).toEqual(["tailrace.toml"]);
  });

  it("tells every mistake on a line of its own, exit 2", async () => {
    write("bad.toml", `${SMALL}[api]\nenabld = 1\n[sinks.x]\n`);
    const ran = await run("validate -c bad.toml");
    expect(ran).toMatchObject({ code: 2, out: "" });
    expect(ran.err.trimEnd().split("\n").sort()).toEqual([
      "error: bad.toml:11: api.enabld: unknown key; did you mean `enabled`?",
      expect.stringContaining("error: bad.toml:12: sinks.x.inputs: this sink reads from nothing"),
      expect.stringContaining("error: bad.toml:12: sinks.x.type: is missing; give one of file"),
    ]);
    const json = await run("validate -c bad.toml --json");
    expect(JSON.parse(json.out)).toMatchObject({ valid: false, mistakes: [{}, {}, {}] });
  });

  it("accepts a configuration without components, and says that nothing would run", async () => {
    write("empty.toml", "");
    expect(await run("validate -c empty.toml")).toMatchObject({
      code: 0,
      out: "",
      err: expect.stringContaining("no sources"),
    });
    expect(await run("validate")).toMatchObject({
      code: 2,
      err: expect.stringContaining("there is no ./tailrace.toml"),
    });
  });

  it("tries every sink with --live; exit 1 with what was unreachable", async () => {
    const sink = (name: string, answer: string) =>
      `[sinks.${name}]\ntype = "tryable"\ninputs = ["app"]\nanswer = "${answer}"\n`;
    write("tailrace.toml", SMALL + sink("good", "yes"));
    expect(await run("validate --live")).toMatchObject({
      code: 0,
      err: "out: reachable: there is nothing to try\ngood: reachable\n",
    });
    write("tailrace.toml", SMALL + sink("bad", "no") + sink("good", "yes"));
    const ran = await run("validate --live --json");
    expect(ran).toMatchObject({ code: 1, err: "bad: unreachable: cannot reach http://***@h/: refused\n" });
    expect((JSON.parse(ran.out) as { live: unknown[] }).live).toHaveLength(3);
    expect(readdirSync(folder)).toEqual(["tailrace.toml"]);
  });

  it("gives up on a sink that never answers", async () => {
    const { loadPlanFromOptions } = await import("./config-options.ts");
    const { probeAll } = await import("./live.ts");
    write(
      "tailrace.toml",
      SMALL.replace('type = "file"\ninputs', 'type = "tryable"\nanswer = "never"\ninputs').replace(/path.*\n/, ""),
    );
    const { plan } = await loadPlanFromOptions({ config: [], set: [] }, ioInto([], []));
    expect(await probeAll(plan, 20)).toEqual([
      { component: "out", reachable: false, reason: "no answer within 20 ms" },
    ]);
  });
});

describe("explain", () => {
  it("prints the effective value with the file and line that set it", async () => {
    write("tailrace.toml", SMALL);
    expect(await run("explain sinks.out.path")).toEqual({
      code: 0,
      out: 'sinks.out.path = "/data/out.ndjson"  # tailrace.toml:9\n',
      err: "",
    });
    expect((await run("explain api.enabled --set api.enabled=false")).out).toBe("api.enabled = false  # --set\n");
    expect((await run("explain api")).out).toContain('api.address = "127.0.0.1:7717"  # built-in default\n');
  });

  it("prints JSON", async () => {
    write("tailrace.toml", SMALL);
    expect(JSON.parse((await run("explain sinks.out.path --json")).out)).toMatchObject({
      value: "/data/out.ndjson",
      file: "tailrace.toml",
      line: 9,
    });
    expect(JSON.parse((await run("explain sinks.out --json")).out)).toHaveLength(8);
  });

  it("explains the shipped tree and the built-in defaults without a pipeline", async () => {
    cpSync(join(import.meta.dirname, "../../config"), join(folder, "config"), { recursive: true });
    const key = "mpsc_channels.orchestration.command_processor.command_buffer_size";
    expect((await run(`explain ${key} -c config -e production`)).out).toBe(
      `${key} = 5000  # config/environments/production/mpsc_channels.toml:4, over config/base/mpsc_channels.toml:13\n`,
    );
    expect((await run(`explain ${key} -c config`, { TAILRACE_ENV: "test" })).out).toContain("= 100 ");
    expect((await run(`explain ${key}`)).out).toBe(`${key} = 1000  # built-in default\n`);
  });
});

describe("bin/tailrace.js", () => {
  /** `main` that gets a signal while it is still loaded, and lives on for a while. */
  const signalled = (signal: string, more = "") =>
    `process.kill(process.pid, "${signal}"); ${more}await new Promise((r) => setTimeout(r, 500)); export const main = async () => 7;`;
  const bin = join(import.meta.dirname, "../../bin/tailrace.js");
  const checkout = (mainModule?: string): string => {
    mkdirSync(join(folder, "bin"));
    cpSync(bin, join(folder, "bin/tailrace.js"));
    write("package.json", '{"type":"module"}');
    if (mainModule !== undefined) {
      mkdirSync(join(folder, "dist/cli"), { recursive: true });
      write("dist/cli/main.js", mainModule);
    }
    const link = join(folder, "tailrace");
    symlinkSync(join(folder, "bin/tailrace.js"), link);
    return link;
  };
  const start = promisify(execFile);

  it("says how to build where dist/ is missing", async () => {
    await expect(start(checkout(), [])).rejects.toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringContaining("npm ci"),
    });
  });

  it("survives SIGUSR1 before anything is loaded, without opening the debugger", async () => {
    // The signal comes while the first import is under way: only a listener made before it can be there.
    const script =
      'process.kill(process.pid, "SIGUSR1"); await new Promise((r) => setTimeout(r, 50)); export const main = async (args) => { process.stdout.write("x".repeat(200000)); return args.length; };';
    const ended = await start(checkout(script), ["a", "b", "c"]).catch((thrown: unknown) => thrown);
    expect(ended).toMatchObject({ stderr: "", code: 3, stdout: "x".repeat(200000) });
  });

  it.each(["SIGTERM", "SIGINT"])("ends an agent that is still being loaded with 0 on %s", async (signal) => {
    const link = checkout(signalled(signal));
    for (const command of ["run", "tail", "demo"]) expect(await start(link, [command])).toMatchObject({ stderr: "" });
    // Every other command dies of it, as any program does.
    await expect(start(link, ["validate"])).rejects.toMatchObject({ code: null, signal });
  });

  it.each(["SIGTERM", "SIGINT"])("leaves %s to the agent once that listens", async (signal) => {
    const listens = `process.on("${signal}", () => process.stdout.write("stops")); `;
    const ended = await start(checkout(listens + signalled(signal)), ["run"]).catch((thrown: unknown) => thrown);
    expect(ended).toMatchObject({ code: 7, stdout: "stops" });
  });

  it("tells an agent of a SIGHUP that came before it listened, once: its configuration may have been read already", async () => {
    const listens = `setTimeout(() => process.on("SIGHUP", () => process.stdout.write("reload ")), 100); `;
    const ended = await start(checkout(signalled("SIGHUP", listens)), ["run"]).catch((thrown: unknown) => thrown);
    expect(ended).toMatchObject({ code: 7, stdout: "reload ", stderr: "" });
  });
});
