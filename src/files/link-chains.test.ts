import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TailBench, texts, until } from "./tail-bench.test-kit.ts";

let bench: TailBench;
beforeEach(() => {
  bench = new TailBench();
});
afterEach(() => bench.close());

const append = (name: string, text: string) => writeFileSync(bench.path(name), text, { flag: "a" });
const told = () => bench.events.filter(({ name }) => ["gap", "repeat", "file_truncated"].includes(name));

describe("a file whose chains of links change", () => {
  it("is read on, each line once and in order, as chains vanish and come back and folders move", async () => {
    mkdirSync(bench.path("real"));
    mkdirSync(bench.path("logs"));
    const link = (name: string) => symlinkSync(bench.path("real"), bench.path(`logs/${name}`));
    link("b");
    link("c");
    const run = bench.start({ include: [bench.path("logs/*/*.log")] });
    let lines = 0;
    const more = async () => {
      for (let line = 0; line < 3; line += 1) {
        lines += 1;
        append(where(), `line ${lines}\n`);
      }
      await until(
        () => run.lines.length >= lines,
        () => [lines, run.lines.length, bench.events],
      );
    };
    let folder = "real";
    const where = () => `${folder}/app.log`;
    await more();
    const steps = [
      () => unlinkSync(bench.path("logs/b")),
      () => link("a"),
      () => unlinkSync(bench.path("logs/c")),
      () => {
        renameSync(bench.path("real"), bench.path("logs/real"));
        folder = "logs/real";
      },
      () => {
        renameSync(bench.path("logs/real"), bench.path("real"));
        folder = "real";
      },
      () => link("b"),
    ];
    for (const step of steps) {
      lines += 1;
      append(where(), `line ${lines}\n`);
      step();
      await more();
    }
    await run.stop();
    expect(texts(run.lines)).toEqual(Array.from({ length: lines }, (_, index) => `line ${index + 1}`));
    expect(told()).toEqual([]);
  });

  it("that changed while nobody looked is the same file after a restart", async () => {
    mkdirSync(bench.path("real"));
    mkdirSync(bench.path("logs"));
    for (const name of ["b", "c"]) symlinkSync(bench.path("real"), bench.path(`logs/${name}`));
    append("real/app.log", "1\n2\n");
    const include = [bench.path("logs/*/*.log")];
    const first = bench.start({ include });
    await until(
      () => first.lines.length === 2,
      () => first.lines,
    );
    await first.stop();
    unlinkSync(bench.path("logs/b"));
    append("real/app.log", "3\n");
    const second = bench.start({ include });
    await until(
      () => second.lines.length >= 1,
      () => second.lines,
    );
    symlinkSync(bench.path("real"), bench.path("logs/a"));
    append("real/app.log", "4\n");
    await until(
      () => second.lines.length >= 2,
      () => second.lines,
    );
    await second.stop();
    expect(texts(second.lines)).toEqual(["3", "4"]);
    expect(told()).toEqual([]);
  });

  it("is read where a link first leads nowhere, then to a file, then to a folder", async () => {
    mkdirSync(bench.path("logs"));
    symlinkSync(bench.path("later"), bench.path("logs/x.log"));
    const run = bench.start({ include: [bench.path("logs/**/*.log")] });
    append("later", "file\n");
    await until(
      () => run.lines.length === 1,
      () => run.lines,
    );
    rmSync(bench.path("later"));
    mkdirSync(bench.path("later"));
    append("later/in.log", "in a folder\n");
    await until(
      () => run.lines.length === 2,
      () => [run.lines, bench.events],
    );
    await run.stop();
    expect(texts(run.lines)).toEqual(["file", "in a folder"]);
  });
});
