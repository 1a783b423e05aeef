import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type BytePath, baseName } from "../../runtime/byte-path.ts";
import { systemClock } from "../../runtime/clock.ts";
import { nodeFileSystem } from "../../runtime/node-file-system.ts";
import { silentLogger } from "../../telemetry/log.ts";
import { ManualClock } from "../../testing/manual-clock.ts";
import { familyOf, type Sibling } from "../family.ts";
import { Logrotate } from "./logrotate.ts";
import { oldestFirst } from "./oldest-first.ts";
import { RotationPlaces } from "./rotation-places.ts";

let root: string;

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "tailrace-places-")));
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Makes files (with their folders), each a minute younger than the one before it. */
function make(...names: string[]): void {
  names.forEach((name, index) => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), name);
    utimesSync(join(root, name), 1_800_000_000 + 60 * index, 1_800_000_000 + 60 * index);
  });
}

interface Asked {
  readonly rotatedTo?: readonly string[];
  /** Its configuration; `ROOT` is the folder of the test. */
  readonly logrotate?: string;
  readonly followedAs?: string;
  /** Those too that were not told. */
  readonly guesses?: boolean;
}

function placesWith({ rotatedTo = [], logrotate }: Asked): RotationPlaces {
  const conf = join(root, "logrotate.conf");
  if (logrotate !== undefined) writeFileSync(conf, logrotate.replaceAll("ROOT", root), { mode: 0o644 });
  if (logrotate !== undefined) chmodSync(conf, 0o644);
  return new RotationPlaces({
    fileSystem: nodeFileSystem,
    clock: systemClock,
    rotatedTo: rotatedTo.map((text) => text.replaceAll("ROOT", root)),
    logrotate: new Logrotate({
      fileSystem: nodeFileSystem,
      clock: systemClock,
      log: silentLogger,
      userId: process.getuid!(),
      configuration: [conf as BytePath],
    }),
  });
}

const path = (name: string): BytePath => join(root, name) as BytePath;

/** As the core does it: every place listed, what is of the family put into order. */
async function generationsOf(base: string, asked: Asked = {}): Promise<string[]> {
  const places = placesWith(asked);
  const siblings: Sibling[] = [];
  const own = baseName(path(base));
  for (const { folder, hasOddNames, parse } of await places.placesOf(path(base), path(asked.followedAs ?? base))) {
    for (const { name } of await nodeFileSystem.readdir(folder).catch(() => [])) {
      const mayBeSibling = hasOddNames || name === own || familyOf(name).base === own;
      const sibling = mayBeSibling ? parse(name) : undefined;
      if (sibling !== undefined && (asked.guesses || !sibling.isGuess)) siblings.push(sibling);
    }
  }
  for (const sibling of siblings) {
    // By the names alone the same is known.
    expect(places.memberAt(sibling.name, path(base), path(asked.followedAs ?? base))).toEqual(sibling);
    if (asked.followedAs === undefined)
      expect(places.basesOf(sibling.name, (name) => (path(base).endsWith(`/${name}`) ? [path(base)] : []))).toEqual([
        path(base),
      ]);
  }
  const inOrder = oldestFirst(siblings, (name) => nodeFileSystem.statSync(name)?.modifiedMs);
  return inOrder.map(({ name }) => name.slice(root.length + 1));
}

describe("RotationPlaces", () => {
  it("has the log's own folder only, where nothing else is told", async () => {
    make("app.log.2", "app.log.1", "app.log", "app2.log.1", "old/app.log.1", "app2/app.log");
    expect(await generationsOf("app.log")).toEqual(["app.log.2", "app.log.1"]);
  });

  describe("rotated_to", () => {
    it("orders the generations of another folder by their names", async () => {
      make("old/app.log.1.gz", "old/app.log.10", "old/app.log.2.zst", "log/app.log");
      expect(await generationsOf("log/app.log", { rotatedTo: ["ROOT/old/{name}*"] })).toEqual([
        "old/app.log.10",
        "old/app.log.2.zst",
        "old/app.log.1.gz",
      ]);
    });

    it("is relative to the folder of the log", async () => {
      make("log/old/app.log-20260131.gz", "other/app.log-20260201", "log/app.log");
      expect(await generationsOf("log/app.log", { rotatedTo: ["old/{name}*", "../other/{name}*"] })).toEqual([
        "log/old/app.log-20260131.gz",
        "other/app.log-20260201",
      ]);
    });

    it("takes nothing of another log, nor a stray file", async () => {
      const strays = ["app.log.bak", "app.log.swp", "app.log~", "app.log-8080.log", "app2.log.1", "app.logger.1"];
      make(...strays.map((name) => `old/${name}`), "old/.app.log.1", "log/app.log");
      expect(await generationsOf("log/app.log", { rotatedTo: ["ROOT/old/{name}*"] })).toEqual([]);
      make("old/syslog-ng.1", "old/syslog-ng", "old/syslog-ng.log", "old/syslog2", "old/syslog.1", "log/syslog");
      expect(await generationsOf("log/syslog", { rotatedTo: ["ROOT/old/{name}*"] })).toEqual(["old/syslog.1"]);
    });

    it("orders by the time of modification what has a number or date of no known form", async () => {
      make("old/app.log-31Jan2026", "old/app.log@4000000065ba", "old/app.log", "log/app.log");
      expect(await generationsOf("log/app.log", { rotatedTo: ["ROOT/old/{name}*"] })).toEqual([
        "old/app.log-31Jan2026",
        "old/app.log@4000000065ba",
        "old/app.log",
      ]);
    });

    it("keeps the order of a log that was moved to another place of rotation", async () => {
      make("log/app.log.3", "log/app.log.2", "log/app.log.1", "old/app.log.2", "old/app.log.1", "log/app.log");
      expect(await generationsOf("log/app.log", { rotatedTo: ["ROOT/old/{name}*"] })).toEqual([
        "log/app.log.3",
        "log/app.log.2",
        "log/app.log.1",
        "old/app.log.2",
        "old/app.log.1",
      ]);
    });

    it("reads dates out of folders", async () => {
      make("a/2026-02-01/app.log.gz", "a/2026-01-31/app.log", "a/2026-01-31/app.log.1", "a/x/app.log", "log/app.log");
      const inOrder = ["a/2026-01-31/app.log.1", "a/2026-01-31/app.log", "a/2026-02-01/app.log.gz"];
      expect(await generationsOf("log/app.log", { rotatedTo: ["ROOT/a/*/{name}"] })).toEqual(inOrder);
      expect(await generationsOf("log/app.log", { rotatedTo: ["ROOT/a/%Y-%m-%d/{name}"] })).toEqual(inOrder);
      expect(await generationsOf("log/app.log", { rotatedTo: ["../a/*/{name}*"] })).toEqual(inOrder);
    });

    it("reads dates out of several folders, and out of folders and names together", async () => {
      make("a/2026/02/01/app.log", "a/2025/12/31/app.log.bz2", "a/2026/01/31/app.log", "a/tmp/x/1/app.log", "app.log");
      const inOrder = ["a/2025/12/31/app.log.bz2", "a/2026/01/31/app.log", "a/2026/02/01/app.log"];
      expect(await generationsOf("app.log", { rotatedTo: ["a/*/*/*/{name}"] })).toEqual(inOrder);
      expect(await generationsOf("app.log", { rotatedTo: ["a/%Y/%m/%d/{name}"] })).toEqual(inOrder);
      make("b/2026-02/02_app.log.gz", "b/2026-02/01_app.log", "b/2026-01/31_app.log", "b/2026-01/x_app.log");
      expect(await generationsOf("app.log", { rotatedTo: ["b/%Y-%m/%d_{name}"] })).toEqual([
        "b/2026-01/31_app.log",
        "b/2026-02/01_app.log",
        "b/2026-02/02_app.log.gz",
      ]);
    });

    it("reads the tag alone, where each log has a folder of its own", async () => {
      make(
        "a/app.log/2026-02-01.gz",
        "a/app.log/2026-01-31.log",
        "a/app.log/README",
        "a/web.log/2026-01-30",
        "app.log",
      );
      expect(await generationsOf("app.log", { rotatedTo: ["ROOT/a/{name}/*"] })).toEqual([
        "a/app.log/2026-01-31.log",
        "a/app.log/2026-02-01.gz",
      ]);
      expect(await generationsOf("app.log", { rotatedTo: ["a/{name}/"] })).toHaveLength(2);
    });

    it("orders by time what begins again each month", async () => {
      make("day31/app.log.1", "day01/app.log", "day02/app.log", "app.log");
      expect(await generationsOf("app.log", { rotatedTo: ["day%d/{name}"] })).toEqual([
        "day31/app.log.1",
        "day01/app.log",
        "day02/app.log",
      ]);
    });

    it("never takes the log for its own generation, nor what is younger", async () => {
      make("app.log.1", "app.log");
      expect(await generationsOf("app.log", { rotatedTo: ["{name}*"] })).toEqual(["app.log.1"]);
      make("a/2026-01-31/app.log", "a/2026-02-01/app.log", "a/2026-02-02/app.log");
      expect(await generationsOf("a/2026-02-01/app.log", { rotatedTo: ["../*/{name}"] })).toEqual([
        "a/2026-01-31/app.log",
      ]);
    });

    it("follows a symbolic link to the place", async () => {
      make("disk/old/app.log.1", "log/app.log");
      symlinkSync(path("disk/old"), path("log/old"));
      expect(await generationsOf("log/app.log", { rotatedTo: ["old/{name}*"] })).toEqual(["disk/old/app.log.1"]);
    });

    it("lists 64 dated folders at most, and those are the newest", async () => {
      const days = Array.from({ length: 90 }, (_, day) =>
        new Date(Date.UTC(2026, 0, 1 + day)).toISOString().slice(0, 10),
      );
      make(...days.map((day) => `a/${day}/app.log`), "app.log");
      for (const [index, day] of days.entries())
        utimesSync(path(`a/${day}`), 1_800_000_000 + index, 1_800_000_000 + index);
      const found = await generationsOf("app.log", { rotatedTo: ["a/*/{name}"] });
      expect(found).toEqual(days.slice(-64).map((day) => `a/${day}/app.log`));
      const places = await placesWith({ rotatedTo: ["a/*/{name}"] }).placesOf(path("app.log"));
      expect(places).toHaveLength(65);
    });
  });

  it("knows the likeliest of several logs that a path may be rotated from first", () => {
    const places = placesWith({ rotatedTo: ["ROOT/old/{name}*"] });
    const known = [
      "old/app.log-20260131",
      "log/old/app.log.1",
      "log/app.log",
      "x/app.log",
      "log/web.log",
      "app.log",
    ].map(path);
    const namesakes = (name: BytePath) => known.filter((base) => baseName(base) === name);
    const basesOf = (name: string) => places.basesOf(path(name), namesakes).map((base) => base.slice(root.length + 1));
    expect(basesOf("old/app.log-20260131.gz")).toEqual(["app.log", "x/app.log", "log/app.log", "old/app.log-20260131"]);
    expect(basesOf("log/old/app.log.1")).toEqual(["log/app.log"]);
    expect(basesOf("log/old/app.log.1.gz")).toEqual(["log/app.log", "log/old/app.log.1"]);
    expect(basesOf("log/app.log")).toEqual([]);
    expect(basesOf("log/app.log.1")).toEqual(["log/app.log", "app.log"]);
  });

  describe("a folder renamed", () => {
    it("holds older generations, all of them older than what lies in the new one", async () => {
      make("app.2/app.log", "app.1/app.log.1.gz", "app.1/app.log", "app/app.log.1", "app/app.log");
      expect(await generationsOf("app/app.log")).toEqual([
        "app.2/app.log",
        "app.1/app.log.1.gz",
        "app.1/app.log",
        "app/app.log.1",
      ]);
    });

    it("may have a date, too", async () => {
      make(
        "app-20260201/x.log",
        "app-20260131/x.log",
        "app-20260131/y.log",
        "app.old/x.log",
        "app-8080/x.log",
        "app/x.log",
      );
      expect(await generationsOf("app/x.log")).toEqual(["app-20260131/x.log", "app-20260201/x.log", "app.old/x.log"]);
    });

    it("is found although its parent was listed just before", async () => {
      make("app/app.log");
      const places = placesWith({});
      const clock = Date.now();
      utimesSync(root, clock / 1000 - 60, clock / 1000 - 60);
      expect(await places.placesOf(path("app/app.log"))).toHaveLength(1);
      make("app.1/app.log");
      expect(await places.placesOf(path("app/app.log"))).toHaveLength(2);
      make("app.2/app.log");
      expect(await places.placesOf(path("app/app.log"))).toHaveLength(3);
    });
  });

  it("sees what comes within the tick of the clock in which a folder was listed", async () => {
    make("app/app.log");
    const places = placesWith({});
    const now = Date.now() / 1000;
    utimesSync(root, now, now);
    expect(await places.placesOf(path("app/app.log"))).toHaveLength(1);
    make("app.1/app.log");
    utimesSync(root, now, now);
    expect(await places.placesOf(path("app/app.log"))).toHaveLength(2);
  });

  describe("a guess", () => {
    it("is a folder below the log's own, or one beside it with a usual name, that holds a rotated name", async () => {
      make("log/old/app.log.2.gz", "log/x/app.log.1", "Archive/app.log-20260131", "other/app.log.1", "log/app.log");
      make("log/none/web.log.1", "log/none/app.log", "log/none/app.log.gz", "log/x/y/app.log.3");
      symlinkSync(path("log/old"), path("log/link"));
      const places = await placesWith({}).placesOf(path("log/app.log"));
      expect(places.map(({ folder, isGuess }) => [folder.slice(root.length + 1), isGuess]).sort()).toEqual([
        ["Archive", true],
        ["log", undefined],
        ["log/old", true],
        ["log/x", true],
      ]);
      expect(await generationsOf("log/app.log", { guesses: true })).toEqual(
        expect.arrayContaining(["Archive/app.log-20260131", "log/old/app.log.2.gz", "log/x/app.log.1"]),
      );
    });

    it("marks what lies in it, and no more once it is told", async () => {
      make("log/old/app.log.1", "log/app.log");
      expect(placesWith({}).memberAt(path("log/old/app.log.1"), path("log/app.log"))).toMatchObject({ isGuess: true });
      const told = placesWith({ rotatedTo: ["old/{name}*"] });
      expect(told.memberAt(path("log/old/app.log.1"), path("log/app.log"))).not.toHaveProperty("isGuess");
      expect(placesWith({}).memberAt(path("log/old/app.log"), path("log/app.log"))).toBeUndefined();
    });
  });

  describe("a link to dated folders", () => {
    it("led to those of older days before", async () => {
      make(
        "l/2026-01-30/app.log",
        "l/2026-01-31/app.log",
        "l/2026-02-01/app.log",
        "l/2026-02-02/app.log",
        "l/x/app.log",
      );
      const asked = { followedAs: "l/current/app.log" };
      expect(await generationsOf("l/2026-02-01/app.log", asked)).toEqual([
        "l/2026-01-30/app.log",
        "l/2026-01-31/app.log",
      ]);
    });

    it("led to those with the same name around the date only, at whatever depth it stands", async () => {
      make(
        "r/v-20260131/logs/app.log",
        "r/w-20260131/logs/app.log",
        "r/v-20260201/logs/app.log",
        "r/v-20260131/app.log",
      );
      const asked = { followedAs: "current/logs/app.log" };
      expect(await generationsOf("r/v-20260201/logs/app.log", asked)).toEqual(["r/v-20260131/logs/app.log"]);
    });

    it("is needed for that: without one, folders of other days hold other logs", async () => {
      make("l/2026-01-31/app.log", "l/2026-02-01/app.log");
      expect(await generationsOf("l/2026-02-01/app.log")).toEqual([]);
    });
  });

  describe("logrotate's configuration", () => {
    it.each([["olddir old"], ["olddir ROOT/log/old"], ["olddir ./../log/old/"]])("tells of `%s`", async (olddir) => {
      make("log/old/app.log.1.gz", "log/old/app.log.2.gz", "log/old/app.log", "log/old/web.log.1", "log/app.log");
      const logrotate = `ROOT/log/*.log {\n weekly\n ${olddir}\n compress\n}\n`;
      expect(await generationsOf("log/app.log", { logrotate })).toEqual([
        "log/old/app.log.2.gz",
        "log/old/app.log.1.gz",
      ]);
    });

    it("says where in it that stands", async () => {
      const places = placesWith({ logrotate: "ROOT/log/*.log {\n weekly\n olddir old\n}\n", rotatedTo: ["x/{name}*"] });
      await places.placesOf(path("log/app.log"));
      expect(places.whereKept(path("log/app.log"))).toBe(
        `logrotate keeps old ones in ${root}/log/old (${root}/logrotate.conf:3); rotated_to says x/{name}*`,
      );
      const other = placesWith({});
      expect(other.whereKept(path("log/app.log"))).toBeUndefined();
    });

    it("tells the format of dates that no other rule knows", async () => {
      make("old/app.log_01-02-2026", "old/app.log_31-01-2026.gz", "old/app.log_x", "app.log");
      make("old/app.log.d30h23.xz", "old/app.log.d31h00", "app.log");
      const rule = (format: string) => `ROOT/*.log {\n olddir old\n dateext\n dateformat ${format}\n}\n`;
      expect(await generationsOf("app.log", { logrotate: rule("_%d-%m-%Y") })).toEqual([
        "old/app.log_31-01-2026.gz",
        "old/app.log_01-02-2026",
      ]);
      expect(await generationsOf("app.log", { logrotate: rule(".d%dh%H") })).toEqual(
        expect.arrayContaining(["old/app.log.d30h23.xz", "old/app.log.d31h00"]),
      );
    });

    it.each([
      ["extension .log", "app.log", ["app.2.log", "app.1.log.gz"]],
      ["extension log", "app.log", ["app..2log", "app..1log.gz"]],
      ["addextension .old", "app.log", ["app.log.2.old", "app.log.1.old.gz"]],
      ["addextension .log", "app.log", ["app.2.log", "app.1.log.gz"]],
      ["extension log\n addextension .x", "app.log", ["app..2log", "app..1log"]],
      ["compresscmd /usr/bin/xz", "app.log", ["app.log.2.xz", "app.log.1"]],
      ["compressext .gzip", "app.log", ["app.log.2.gzip", "app.log.1"]],
      ["dateext\n addextension .x", "app.log", ["app.log-20260131.x", "app.log-20260201.x.gz"]],
      ["dateext\n hourly", "app.log", ["app.log-2026013109", "app.log-2026013110"]],
      ["dateext\n dateformat -w%V\n addextension .9", "app", ["app-w52.9", "app-w53.9", "app-w01.9"]],
    ])("tells that names are made by `%s`", async (directives, base, names) => {
      make(...names.map((name) => `old/${name}`), base, "old/app.logx", "old/xapp.log.1");
      const logrotate = `ROOT/app* {\n olddir old\n ${directives}\n}\n`;
      expect(await generationsOf(base, { logrotate })).toEqual(names.map((name) => `old/${name}`));
    });

    it("does not count for a log that none of its patterns match, nor against `noolddir`", async () => {
      make("old/app.log.1", "old/web.log.1", "old/.x.log.1", "app.log", "web.log", ".x.log");
      const logrotate = "olddir old\nROOT/app.log {\n noolddir\n}\nROOT/*.log {\n}\n";
      expect(await generationsOf("app.log", { logrotate })).toEqual([]);
      expect(await generationsOf("web.log", { logrotate })).toEqual(["old/web.log.1"]);
      expect(await generationsOf(".x.log", { logrotate })).toEqual([]);
    });

    it("counts for a log whose folder it knows by a symbolic link", async () => {
      make("disk/log/old/app.log.1", "disk/log/app.log");
      symlinkSync(path("disk/log"), path("log"));
      const logrotate = "ROOT/log/*.log {\n olddir old\n}\n";
      expect(await generationsOf("disk/log/app.log", { logrotate })).toEqual(["disk/log/old/app.log.1"]);
    });

    it("is read again when it has changed, a minute later at the latest", async () => {
      const clock = new ManualClock();
      const conf = path("logrotate.conf");
      writeFileSync(conf, `${root}/app.log {\n}\n`);
      const logrotate = new Logrotate({
        fileSystem: nodeFileSystem,
        clock,
        log: silentLogger,
        userId: process.getuid!(),
        configuration: [conf],
      });
      const places = new RotationPlaces({ fileSystem: nodeFileSystem, clock, rotatedTo: [], logrotate });
      expect(await places.placesOf(path("app.log"))).toHaveLength(1);
      writeFileSync(conf, `${root}/app.log {\n olddir old\n}\n`);
      expect(await places.placesOf(path("app.log"))).toHaveLength(1);
      await clock.advance(60_000);
      expect((await places.placesOf(path("app.log"))).map(({ folder }) => folder)).toEqual([root, path("old")]);
      rmSync(conf);
      await clock.advance(60_000);
      expect(await places.placesOf(path("app.log"))).toHaveLength(1);
    });
  });
});
