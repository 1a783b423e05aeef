import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type BytePath, joinPath, pathFromBytes, pathFromText, pathToBytes, pathToText } from "../runtime/byte-path.ts";
import { systemClock } from "../runtime/clock.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { systemRandom } from "../runtime/random.ts";
import { silentLogger } from "../telemetry/log.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { PathPatterns, patternMistake } from "./glob.ts";
import { withoutEscapes } from "./name-pattern.ts";
import { pathsOf } from "./pattern-words.ts";
import { Watcher } from "./watcher.ts";

const FOLDERS = ["a", "b", "ab", ".h", "d[1]", "a/x", "a/.y", "b/x", "b/x/a", "sp ace", "ü"];
const NAMES = [
  ..."a b ab a.log b.log x1.log x2.log x10.log xx.log .log .a.log A.log B [ ] ! ^ - a-b lit[1].log lit1.log {q} {a,b} a} *".split(
    " ",
  ),
  ..."? ?.log \\ a\\b é.log éa 日本.log 😀 😀.log _ ~ # $a ' \" ;& (a) a(1).log +(a) 0 9 5 a,b ..c".split(" "),
  "sp ace.log",
  "new\nline",
  "tab\t",
];
/** No UTF-8, in bytes. */
const BROKEN = ["\xff.log", "a\xfe\xffb", "\xc3\xa9\xff.log"] as BytePath[];

const WRITTEN = [
  "*",
  "?",
  "??",
  ".*",
  "*.log",
  "**",
  "**/*",
  "**/*.log",
  "**/.*",
  ".*/*",
  "*/*",
  "*/**",
  "**/x/*",
  "a/**/*.log",
  "**/**/a",
  "[!a-z]*",
  "[^a-z]*",
  "[!0-9].log",
  "x[0-9].log",
  "x[!0-9].log",
  "x[1-]*",
  "[]]",
  "[!]]",
  "[]-]",
  "[[]",
  "[!]a]*",
  "[a-]",
  "[[:digit:]]",
  "[[:alpha:]]*",
  "[![:alpha:]]*",
  "[[:upper:]]*",
  "[[:punct:]]",
  "[[:space:]a]*",
  "*[[:blank:]]*",
  "[[:alnum:]_]*",
  "[[=a=]]*",
  "[[.a.]]",
  "[[.-.]]",
  "[.]*",
  "[!.]*",
  "?log",
  "*[.]log",
  "\\*",
  "\\?",
  "\\[",
  "\\]",
  "\\\\",
  "a\\\\b",
  "lit\\[1\\].log",
  "lit[1].log",
  "lit[[]1].log",
  "lit[1]*",
  "{a,b}/x/*",
  "{a/x,b}/*",
  "{q}",
  "{a,b}",
  "\\{a,b}",
  "{a,{b,ab}}",
  "{1..5}",
  "x{1..12}.log",
  "{x{1,2},b}.log",
  "{.,}a*",
  "{a,b}{,.log}",
  "{*,a/*}",
  "d[[]1]/*",
  "d[1]/*",
  "d\\[1\\]/*",
  "d?1?/a",
  "[é]*",
  "é*",
  "?.log",
  "[日-本]*",
  "😀*",
  "[😀]",
  "[^😀]",
  "[α-ω]*",
  "*a",
  "a*",
  "*a*b*",
  "***",
  "**a",
  "a**",
  "**.log",
  "*/x",
  "./a",
  "a/../b",
  "a//x/*",
  "{./a,b//x}/*",
  "[a/b]*",
  "sp ace/*",
  "sp[[:space:]]ace*",
  "*[ ]*",
  "*$*",
  "*'*",
  "[\\]]",
  "[\\!a]",
  "[a\\-z]",
  "[!\\]]",
  "[\\\\]",
  "?\\?",
  "..*",
  ".?*",
  "[+--]",
  "[--9]",
  "[!-]",
  "[-a]",
]; // prettier-ignore

const ATOMS = [..."aabx1?**[[]!^-.\\/", "**", "**/", "[!", "[a-", "{a,", "}", "log", ".", "é", "[[:alpha:]]", "x/"];

function chance(count: number): string[] {
  const random = new SeededRandom(23);
  const pick = (below: number) => Math.floor(random.next() * below);
  return Array.from({ length: count }, () =>
    Array.from({ length: 1 + pick(8) }, () => ATOMS[pick(ATOMS.length)]).join(""),
  );
}

function plant(): { root: string; files: BytePath[] } {
  const root = mkdtempSync(join(tmpdir(), "tailrace-glob-"));
  const files: BytePath[] = [];
  for (const folder of ["", ...FOLDERS]) {
    const path = folder === "" ? root : `${root}/${folder}`;
    mkdirSync(path, { recursive: true });
    for (const name of [...NAMES.map(pathFromText), ...BROKEN]) {
      const file = joinPath(pathFromText(path), name);
      if (FOLDERS.some((other) => file === pathFromText(`${root}/${other}`))) continue;
      writeFileSync(pathToBytes(file), "");
      files.push(file);
    }
  }
  return { root, files };
}

/** The files that bash finds for each pattern. */
function findWithBash(root: string, patterns: readonly string[]): Set<BytePath>[] {
  // What the shell would take for its own syntax, and a pattern has no meaning for.
  const quoted = patterns.map((pattern) => pattern.replace(/[ \t\n'"`$&|;<>()#~]/g, "\\$&"));
  const lines = quoted.map(
    (word) => `for f in ${root}/${word}; do [ -f "$f" ] && printf '%s\\0' "$f"; done; printf '//\\0'`,
  );
  const { stdout } = spawnSync("bash", ["-O", "globstar", "-O", "nullglob"], {
    input: lines.join("\n"),
    env: { ...process.env, LC_ALL: "C.UTF-8" },
    maxBuffer: 1 << 28,
  });
  const groups = pathFromBytes(stdout).split("//\0").slice(0, -1);
  return groups.map((group) => new Set(group.split("\0").slice(0, -1).map(normal)));
}

function normal(path: string): BytePath {
  const names: string[] = [];
  for (const name of path.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return `/${names.join("/")}` as BytePath;
}

async function walk(patterns: PathPatterns): Promise<BytePath[]> {
  const watcher = new Watcher({
    source: "app",
    patterns,
    fileSystem: nodeFileSystem,
    clock: systemClock,
    random: systemRandom,
    events: { emit: () => {} },
    log: silentLogger,
    scanIntervalMs: 1000,
    idleScanIntervalMs: 1000,
    maxFiles: 100_000,
    isKnown: () => false,
    onHint: () => {},
  });
  try {
    return (await watcher.look()).filter(({ stat }) => stat !== undefined).map(({ path }) => path);
  } finally {
    watcher.close();
  }
}

describe("globs, beside bash", () => {
  const { root, files } = plant();
  afterAll(() => rmSync(root, { recursive: true, force: true }));
  const meant = [...WRITTEN, ...chance(600)].filter((text) => patternMistake(`${root}/${text}`) === undefined);

  it("finds the files that bash finds for each of many patterns, by its walk and by its judgement of a path", async () => {
    expect(meant.length).toBeGreaterThan(300);
    const byBash = findWithBash(root, meant);
    expect(byBash).toHaveLength(meant.length);
    const wrong: unknown[] = [];
    for (const [index, text] of meant.entries()) {
      const want = new Set(byBash[index]);
      // Where a shell finds nothing, it takes the word as the path that it spells.
      for (const parts of pathsOf(`${root}/${text}`, "/")) {
        const spelled = pathFromText(`/${parts.map(withoutEscapes).join("/")}`);
        if (files.includes(spelled)) want.add(spelled);
      }
      const patterns = new PathPatterns([`${root}/${text}`], []);
      const judged = files.filter((file) => patterns.judge(file).kind === "included");
      const walked = await walk(patterns);
      for (const [how, found] of Object.entries({ judged, walked })) {
        const missing = [...want].filter((file) => !found.includes(file)).map(pathToText);
        const unwanted = found.filter((file) => !want.has(file)).map(pathToText);
        if (missing.length + unwanted.length > 0) wrong.push({ text, how, missing, unwanted });
        if (new Set(found).size !== found.length) wrong.push({ text, how, twice: true });
      }
    }
    expect(wrong).toEqual([]);
  });
});
