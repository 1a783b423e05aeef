import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Argument, Command, Option } from "commander";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { completionScript, SHELLS, type Shell } from "./completion-scripts.ts";
import { completionTree } from "./completion-tree.ts";
import { withConfigOptions } from "./config-options.ts";
import { buildProgram } from "./main.ts";

/** Every shape of command there is: plain, nested, with choices, with files. */
function sampleProgram(): Command {
  const program = new Command("tailrace").helpCommand("help [command]", "print help");
  withConfigOptions(program.command("run").description("it's running"))
    .addOption(new Option("--log-format <format>", "how").choices(["json", "pretty"]))
    .option("--once", "read to the end");
  program.command("tail").argument("<globs...>", "files").option("--to <target>", "where to");
  const checkpoints = program.command("checkpoints");
  withConfigOptions(checkpoints.command("list")).option("--json", "JSON");
  checkpoints.command("show").argument("<path>", "a file");
  program.command("completion").addArgument(new Argument("<shell>", "which").choices(SHELLS));
  return program;
}

const scriptFor = (shell: Shell, program = sampleProgram()) => completionScript(shell, completionTree(program));
const has = (shell: Shell) => spawnSync(shell, ["-c", "exit 0"]).status === 0;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-completion-"));
  writeFileSync(join(folder, "my file.toml"), "");
  mkdirSync(join(folder, "mydir"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a real bash offers for a line; the last word is being typed. */
function bash(...words: string[]): string[] {
  const quoted = words.map((word) => `'${word}'`).join(" ");
  const script = `${scriptFor("bash")}
COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}
_tailrace
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const ran = spawnSync("bash", ["--norc", "-uc", script], { cwd: folder, encoding: "utf8" });
  expect(ran.stderr).toBe("");
  return ran.stdout
    .split("\n")
    .filter((line) => line !== "")
    .sort();
}

describe.skipIf(!has("bash"))("bash completion", () => {
  it("offers commands, and commands of commands", () => {
    expect(bash("tailrace", "")).toEqual(["checkpoints", "completion", "help", "run", "tail"]);
    expect(bash("tailrace", "co")).toEqual(["completion"]);
    expect(bash("tailrace", "checkpoints", "")).toEqual(["help", "list", "show"]);
    expect(bash("tailrace", "checkpoints", "help", "li")).toEqual(["list"]);
    expect(bash("tailrace", "help", "ru")).toEqual(["run"]);
  });

  it("offers the options of the command at hand", () => {
    expect(bash("tailrace", "checkpoints", "list", "--")).toEqual([
      "--config",
      "--env",
      "--help",
      "--json",
      "--set",
      "--state-dir",
    ]);
    expect(bash("tailrace", "run", "--set", "a=b", "--on")).toEqual(["--once"]);
  });

  it("offers the values of an option, also behind an equals sign", () => {
    expect(bash("tailrace", "run", "--log-format", "")).toEqual(["json", "pretty"]);
    expect(bash("tailrace", "run", "--log-format", "=", "p")).toEqual(["pretty"]);
    expect(bash("tailrace", "run", "--log-format", "=")).toEqual(["json", "pretty"]);
    expect(bash("tailrace", "run", "-e", "")).toEqual(["development", "production", "test"]);
  });

  it("offers files and folders where they are wanted", () => {
    expect(bash("tailrace", "run", "-c", "my")).toEqual(["my file.toml", "mydir"]);
    expect(bash("tailrace", "run", "--state-dir", "")).toEqual(["mydir"]);
    expect(bash("tailrace", "tail", "my")).toEqual(["my file.toml", "mydir"]);
  });

  it("offers the choices of an argument, at its own place only", () => {
    expect(bash("tailrace", "completion", "")).toEqual(["bash", "fish", "zsh"]);
    expect(bash("tailrace", "completion", "bash", "")).toEqual([]);
    expect(bash("tailrace", "run", "--set", "")).toEqual([]);
  });
});

describe("completion scripts", () => {
  const io = { stdout: { write: () => true }, stderr: { write: () => true }, env: {}, cwd: "/", exitCode: 0 };

  for (const shell of SHELLS) {
    it.skipIf(!has(shell))(`is valid ${shell}, for the real commands too`, () => {
      for (const script of [scriptFor(shell), scriptFor(shell, buildProgram(io))]) {
        const file = join(folder, `completion.${shell}`);
        writeFileSync(file, script);
        const checked = spawnSync(shell, ["-n", file], { encoding: "utf8" });
        expect([checked.status, checked.stderr]).toEqual([0, ""]);
      }
    });
  }

  it("offers the tours of the demo", () => {
    const demo = completionTree(buildProgram(io)).commands.find(({ path }) => path[0] === "demo");
    expect(demo?.args).toEqual([{ kind: "words", words: ["files", "queue"] }]);
  });

  it("name every command and option in each shell", () => {
    for (const shell of SHELLS) {
      const script = scriptFor(shell);
      for (const word of ["checkpoints", "show", "log-format", "state-dir", "pretty", "production"])
        expect([shell, word, script.includes(word)]).toEqual([shell, word, true]);
    }
    expect(scriptFor("fish")).toContain("it\\'s running");
  });
});
