import { spawnSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync, statSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { pathFromText } from "../runtime/byte-path.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { findTheLongWay, silentFileSystem, WatcherBench } from "./watcher.test-kit.ts";

let bench: WatcherBench;
beforeEach(() => {
  bench = new WatcherBench();
});
afterEach(() => bench.close());

const write = (name: string) => writeFileSync(bench.path(name), `${name}\n`);
const mkdir = (name: string) => mkdirSync(bench.path(name), { recursive: true });
const link = (to: string, name: string) => symlinkSync(to.startsWith("/") ? to : bench.path(to), bench.path(name));
const relink = (to: string, name: string) => {
  unlinkSync(bench.path(name));
  link(to, name);
};

describe.each([
  ["by scans alone", silentFileSystem],
  ["with notifications", nodeFileSystem],
])("a symbolic link, %s", (_how, fileSystem) => {
  it("that leads nowhere at first is followed to a file that comes later", async () => {
    mkdir("logs");
    link("later", "logs/a.log");
    const seen = bench.make(["logs/*.log"], [], { fileSystem });
    expect(await seen.scan()).toEqual([]);
    write("later");
    expect(await seen.scan()).toEqual(["logs/a.log"]);
  });

  it("that leads nowhere at first is followed to a folder that comes later, at any depth", async () => {
    mkdir("logs");
    link("later/deep", "logs/app");
    const seen = bench.make(["logs/*/x.log", "logs/app/y/*.log"], [], { fileSystem });
    expect(await seen.scan()).toEqual([]);
    mkdir("later/deep/y");
    write("later/deep/x.log");
    write("later/deep/y/z.log");
    expect(await seen.scan()).toEqual(["logs/app/x.log", "logs/app/y/z.log"]);
  });

  it("that is switched between file, folder, device and nothing is followed to each, time and again", async () => {
    mkdir("logs");
    mkdir("folder");
    write("folder/in.log");
    write("file");
    link("/dev/null", "logs/x.log");
    const seen = bench.make(["logs/**/*.log"], [], { fileSystem });
    expect(await seen.scan()).toEqual([]);
    const ends: readonly [string, string[]][] = [
      ["file", ["logs/x.log"]],
      ["folder", ["logs/x.log/in.log"]],
      ["nowhere", []],
      ["folder", ["logs/x.log/in.log"]],
      ["/dev/null", []],
      ["file", ["logs/x.log"]],
      ["/dev/null", []],
      ["nowhere", []],
      ["file", ["logs/x.log"]],
      ["nowhere", []],
      ["folder", ["logs/x.log/in.log"]],
      ["file", ["logs/x.log"]],
    ];
    for (const [end, paths] of ends) {
      relink(end, "logs/x.log");
      expect([end, await seen.scan()]).toEqual([end, paths]);
    }
  });

  it("whose target itself changes between file, folder, pipe and nothing is followed to each", async () => {
    mkdir("logs");
    link("target", "logs/x.log");
    const seen = bench.make(["logs/**/*.log"], [], { fileSystem });
    const target = bench.path("target");
    for (let round = 0; round < 2; round += 1) {
      write("target");
      expect(await seen.scan()).toEqual(["logs/x.log"]);
      rmSync(target);
      mkdir("target");
      write("target/y.log");
      expect(await seen.scan()).toEqual(["logs/x.log/y.log"]);
      rmSync(target, { recursive: true });
      spawnSync("mkfifo", [target]);
      expect(await seen.scan()).toEqual([]);
      rmSync(target);
      expect(await seen.scan()).toEqual([]);
    }
  });

  it("that is switched to another folder shows the files of that one under the same path", async () => {
    for (const release of ["one", "two"]) {
      mkdir(`releases/${release}`);
      write(`releases/${release}/x.log`);
    }
    link("releases/one", "current");
    const seen = bench.make(["current/*.log"], [], { fileSystem });
    await seen.scan();
    const before = seen.inodeAt("current/x.log");
    relink("releases/two", "current");
    expect(await seen.scan()).toEqual(["current/x.log"]);
    expect(seen.inodeAt("current/x.log")).not.toBe(before);
    expect(seen.inodeAt("current/x.log")).toBe(statSync(bench.path("releases/two/x.log"), { bigint: true }).ino);
  });

  it("leads round in a circle, and is nobody's trouble", async () => {
    mkdir("logs");
    symlinkSync("self", bench.path("logs/self"));
    link("logs", "logs/back");
    write("logs/a.log");
    const seen = bench.make(["logs/**/*.log", "logs/*/*/none.txt"], [], { fileSystem });
    expect(await seen.scan()).toEqual(["logs/a.log"]);
    expect(bench.events).toEqual([]);
  });
});

describe("a file behind several chains of links", () => {
  it("is looked at once in folders that all link to each other, at the cost of one listing a folder", async () => {
    const folders = 8;
    for (let one = 0; one < folders; one += 1) {
      mkdir(`p${one}/deps`);
      write(`p${one}/run.log`);
      for (let other = 0; other < folders; other += 1) if (other !== one) link(`p${other}`, `p${one}/deps/p${other}`);
    }
    let listings = 0;
    const fileSystem = {
      ...silentFileSystem,
      readdir: (folder: Parameters<typeof nodeFileSystem.readdir>[0]) => {
        listings += 1;
        return nodeFileSystem.readdir(folder);
      },
    };
    const seen = bench.make(["**/*.log"], [], { fileSystem });
    expect(await seen.scan()).toEqual(Array.from({ length: folders }, (_, one) => `p${one}/run.log`));
    expect(listings).toBe(1 + 2 * folders);
  });

  it("is looked at by another chain when its own vanishes, and by its own again when that is back", async () => {
    mkdir("real");
    write("real/a.log");
    mkdir("logs");
    link("real", "logs/b");
    link("real", "logs/c");
    const seen = bench.make(["logs/*/*.log"]);
    expect(await seen.scan()).toEqual(["logs/b/a.log"]);
    unlinkSync(bench.path("logs/b"));
    expect(await seen.scan()).toEqual(["logs/c/a.log"]);
    renameSync(bench.path("real"), bench.path("logs/real"));
    expect(await seen.scan()).toEqual(["logs/real/a.log"]);
    renameSync(bench.path("logs/real"), bench.path("real"));
    expect(await seen.scan()).toEqual(["logs/c/a.log"]);
    link("real", "logs/b");
    expect(await seen.scan()).toEqual(["logs/b/a.log"]);
  });

  it("is looked at by the chain that no exclude cuts", async () => {
    mkdir("logs/v1");
    write("logs/v1/a.log");
    link("logs/v1", "logs/current");
    const seen = bench.make(["logs/**/*.log"], ["logs/v1/**"]);
    expect(await seen.scan()).toEqual(["logs/current/a.log"]);
    expect(seen.watcher.lookedAtAs(pathFromText(bench.path("logs/v1/a.log")))).toBe(bench.path("logs/current/a.log"));
  });

  it("under each of a few patterns is as a shell would find it", async () => {
    mkdir("logs/v1");
    for (const name of ["a.log", "a.txt", "b.csv"]) write(`logs/v1/${name}`);
    link("logs/v1", "logs/x");
    const seen = bench.make(["logs/v1/*.log", "logs/x/*.txt", "logs/*/b.csv"]);
    expect(await seen.scan()).toEqual(["logs/v1/a.log", "logs/v1/b.csv", "logs/x/a.txt"]);
  });
});

describe("folders and links that change by chance", () => {
  const PATTERNS: readonly (readonly [string[], string[]])[] = [
    [["**/*.log"], []],
    [["**/*.log"], ["b/**"]],
    [
      ["*/*/x.log", "a/**/y.log", "c/*"],
      ["**/d/*", "z*"],
    ],
    [["[ab]/c/*.log", "d/x.log", "*/*/*/*/y.log"], []],
  ];

  it.each([1, 2, 3, 4, 5, 6, 7, 8, 86, 274, 691, 966])(
    "show at each scan exactly what there is, each file by its best path, as after a restart (seed %i)",
    async (seed) => {
      const random = new SeededRandom(seed);
      const pick = <T>(items: readonly T[]): T => items[Math.floor(random.next() * items.length)]!;
      const folders = ["a", "b", "c", "a/c", "b/d", "d", "a/c/d"];
      const names = [...folders, "a/e", "c/f", "d/a", "b/a", "a/x.log", "b/y.log", "c/z.log", "a/c/x.log", "d/x.log"];
      const [include, exclude] = PATTERNS[seed % PATTERNS.length]!;
      const fileSystem = seed % 2 === 0 ? silentFileSystem : nodeFileSystem;
      const seen = bench.make(include, exclude, { fileSystem });
      const attempt = (step: () => void): void => {
        try {
          step();
        } catch {
          // Chance asks for what cannot be.
        }
      };
      const steps: readonly (() => void)[] = [
        () => mkdir(pick(folders)),
        () => mkdir(pick(folders)),
        () => write(pick(names)),
        () => write(pick(names)),
        () => write(`${pick(folders)}/${pick(["x.log", "y.log", "z.log"])}`),
        () => link(pick(names), pick(names)),
        () => link(pick(folders), `${pick(folders)}/${pick(["a", "c", "d", "e"])}`),
        () => rmSync(bench.path(pick(names)), { recursive: true }),
        () => unlinkSync(bench.path(pick(names))),
        () => renameSync(bench.path(pick(names)), bench.path(pick(names))),
      ];
      for (let turn = 0; turn < 60; turn += 1) {
        const count = 1 + Math.floor(random.next() * 4);
        for (let step = 0; step < count; step += 1) attempt(pick(steps));
        if (random.next() < 0.3) await seen.look();
        const now = await seen.scan();
        const depth = 6;
        const want = findTheLongWay(bench.folder, seen.patterns, depth);
        expect([turn, now.filter((path) => path.split("/").length <= depth + 1)]).toEqual([turn, want]);
        if (turn % 10 !== 9) continue;
        const fresh = bench.make(include, exclude, { fileSystem });
        expect(await fresh.scan()).toEqual(now);
        expect(fresh.watcher.pathCount).toBe(seen.watcher.pathCount);
      }
    },
  );
});
