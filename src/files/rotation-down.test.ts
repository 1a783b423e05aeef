import {
  appendFileSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { BytePath } from "../runtime/byte-path.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { FaultyFileSystem } from "../testing/faulty-file-system.ts";
import { type Line, TailBench, texts, until } from "./tail-bench.test-kit.ts";
import type { TailerManagerOptions } from "./tailer-manager-options.ts";

let bench: TailBench;
beforeEach(() => {
  bench = new TailBench();
});
afterEach(() => bench.close());

const log = () => bench.path("app.log");
const rotated = (number: number, ending = "") => bench.path(`app.log.${number}${ending}`);
const everything = () => ({ include: [`${bench.folder}/**`] });

/** What the next run reads, given what an earlier one had read. */
async function afterDowntime(
  before: () => void,
  meanwhile: () => void,
  options: Partial<TailerManagerOptions> = {},
): Promise<Line[]> {
  before();
  await bench.once(options);
  bench.events.length = 0;
  meanwhile();
  return bench.once(options);
}

describe("after a downtime", () => {
  it("in which nothing happened, nothing is read again", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n"),
      () => {},
    );
    expect(lines).toEqual([]);
  });

  it("reads what was appended", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n"),
      () => appendFileSync(log(), "3\n"),
    );
    expect(texts(lines)).toEqual(["3"]);
  });

  it("with a rename and a new file, reads the old to its end, then the new from 0", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n"),
      () => {
        appendFileSync(log(), "3\n");
        renameSync(log(), rotated(1));
        writeFileSync(log(), "4\n5\n");
      },
    );
    expect(texts(lines)).toEqual(["3", "4", "5"]);
    expect(bench.eventsNamed("gap")).toEqual([]);
  });

  it("with two generations missed, reads all of them in the order of the rotation", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n"),
      () => {
        appendFileSync(log(), "2\n");
        renameSync(log(), rotated(3));
        writeFileSync(rotated(2), "3\n");
        writeFileSync(rotated(1), "4\n");
        writeFileSync(log(), "5\n");
      },
    );
    expect(texts(lines)).toEqual(["2", "3", "4", "5"]);
    expect(lines.every((line) => line.file === log())).toBe(true);
  });

  it("with two generations missed and compressed, reads all of them", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n"),
      () => {
        writeFileSync(rotated(3, ".gz"), gzipSync("1\n2\n"));
        writeFileSync(rotated(2, ".gz"), gzipSync("3\n"));
        writeFileSync(rotated(1), "4\n");
        unlinkSync(log());
        writeFileSync(log(), "5\n");
      },
    );
    expect(texts(lines)).toEqual(["2", "3", "4", "5"]);
  });

  it("with two generations missed by copy and truncation, reads all of them", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "first\n"),
      () => {
        appendFileSync(log(), "second\n");
        copyFileSync(log(), rotated(1));
        truncateSync(log());
        appendFileSync(log(), "third\n");
        renameSync(rotated(1), rotated(2));
        copyFileSync(log(), rotated(1));
        truncateSync(log());
        appendFileSync(log(), "fourth line is long enough to pass what was read\n");
      },
    );
    expect(texts(lines)).toEqual(["second", "third", "fourth line is long enough to pass what was read"]);
  });

  it("never reads rotated files from before the first start", async () => {
    writeFileSync(rotated(2), "ancient\n");
    writeFileSync(rotated(1), "old\n");
    const past = new Date(Date.now() - 86_400_000);
    utimesSync(rotated(1), past, past);
    utimesSync(rotated(2), past, past);
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n"),
      () => {
        renameSync(rotated(2), rotated(3));
        renameSync(rotated(1), rotated(2));
        appendFileSync(log(), "2\n");
        renameSync(log(), rotated(1));
        writeFileSync(log(), "3\n");
      },
    );
    expect(texts(lines)).toEqual(["2", "3"]);
  });

  it("with a copy and a truncation, finishes from the copy, then starts at 0", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n"),
      () => {
        appendFileSync(log(), "3\n");
        copyFileSync(log(), rotated(1));
        truncateSync(log());
        appendFileSync(log(), "4\n");
      },
    );
    expect(texts(lines)).toEqual(["3", "4"]);
  });

  it("with a copy that is not yet truncated, reads the file on and each byte once", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n"),
      () => {
        appendFileSync(log(), "3\n");
        copyFileSync(log(), rotated(1));
        appendFileSync(log(), "4\n");
      },
      everything(),
    );
    expect(texts(lines)).toEqual(["3", "4"]);
    truncateSync(log());
    appendFileSync(log(), "5\n");
    expect(texts(await bench.once(everything()))).toEqual(["5"]);
  });

  it("killed between the copy and the truncation, with lines written in between, reads each byte once", async () => {
    for (const options of [{}, everything()]) {
      rmSync(log(), { force: true });
      rmSync(rotated(1), { force: true });
      bench.positions.stored.clear();
      bench.positions.committed.clear();
      bench.positions.sets.clear();
      writeFileSync(log(), "1\n2\n");
      const run = bench.start(options);
      while (run.lines.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
      copyFileSync(log(), rotated(1));
      await new Promise((resolve) => setTimeout(resolve, 150));
      appendFileSync(log(), "3\n");
      while (run.lines.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
      await run.kill();
      truncateSync(log());
      appendFileSync(log(), "4\n");
      expect(texts(await bench.once(options))).toEqual(["4"]);
    }
  });

  it("with a truncation, refilled past the position by other bytes, says what cannot be found", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n"),
      () => {
        truncateSync(log());
        appendFileSync(log(), "other bytes, and more of them than before\n");
      },
    );
    expect(texts(lines)).toEqual(["other bytes, and more of them than before"]);
    expect(bench.eventsNamed("file_truncated")).toHaveLength(1);
  });

  it("with a refill that agrees around the position, the copy beside it tells", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "same\nsame\n"),
      () => {
        appendFileSync(log(), "old\n");
        copyFileSync(log(), rotated(1));
        truncateSync(log());
        appendFileSync(log(), "same\nsame\nnew\n");
      },
    );
    expect(texts(lines)).toEqual(["old", "same", "same", "new"]);
  });

  it("with a rename and compression, reads the unread bytes out of the archive", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n"),
      () => {
        writeFileSync(rotated(1, ".gz"), gzipSync("1\n2\n3\n"));
        unlinkSync(log());
        writeFileSync(log(), "4\n");
      },
    );
    expect(texts(lines)).toEqual(["3", "4"]);
    expect(lines[0]!.offset).toBe(4);
  });

  it("with a compression half-way, reads the plain file and each byte once", async () => {
    const whole = gzipSync("1\n2\n3\n");
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n"),
      () => {
        appendFileSync(log(), "3\n");
        renameSync(log(), rotated(1));
        writeFileSync(rotated(1, ".gz"), whole.subarray(0, whole.length - 5));
        writeFileSync(log(), "4\n");
      },
    );
    expect(texts(lines)).toEqual(["3", "4"]);
    writeFileSync(rotated(1, ".gz"), whole);
    unlinkSync(rotated(1));
    expect(await bench.once(everything())).toEqual([]);
  });

  it("reads each byte once under ** with copytruncate, delayed compression and all names", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n"),
      () => {
        appendFileSync(log(), "2\n");
        copyFileSync(log(), rotated(1));
        truncateSync(log());
        appendFileSync(log(), "3\n");
        // The next rotation: what was a copy is compressed now, and a new copy is made.
        writeFileSync(rotated(2, ".gz"), gzipSync("1\n2\n"));
        unlinkSync(rotated(1));
        copyFileSync(log(), rotated(1));
        truncateSync(log());
        appendFileSync(log(), "4\n");
      },
      everything(),
    );
    expect(texts(lines).sort()).toEqual(["2", "3", "4"]);
  });

  it("with a deletion of all that was read, goes on with the new file, and no gap is told", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n"),
      () => {
        writeFileSync(bench.path("new"), "2\n");
        renameSync(bench.path("new"), log());
      },
    );
    expect(texts(lines)).toEqual(["2"]);
    expect(bench.eventsNamed("gap")).toEqual([]);
    expect(await bench.once()).toEqual([]);
  });

  it("with a deletion of what was known and not read, tells the gap once, with its range", async () => {
    writeFileSync(log(), "1\n2\n");
    const run = bench.start({}, { settles: false });
    await until(
      () => run.lines.length === 2,
      () => run.lines,
    );
    await run.kill();
    unlinkSync(log());
    writeFileSync(log(), "3\n");
    bench.events.length = 0;
    expect(texts(await bench.once())).toEqual(["3"]);
    expect(bench.eventsNamed("gap").map(({ facts }) => facts)).toEqual([{ file: log(), offset: 0, bytes: 4 }]);
    bench.events.length = 0;
    expect(await bench.once()).toEqual([]);
    expect(bench.eventsNamed("gap")).toEqual([]);
  });

  it("with a new file on a reused inode, reads it from 0", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n3\n"),
      () => {
        // The worst case of reuse: the same inode, under another name, with other content.
        renameSync(log(), bench.path("other.log"));
        truncateSync(bench.path("other.log"));
        appendFileSync(bench.path("other.log"), "new content\n");
      },
    );
    expect(texts(lines)).toEqual(["new content"]);
  });

  it("of a file that moved to another file system of the same content (same path), reads on", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n2\n"),
      () => {
        // A restore: other inode, same path, same content.
        copyFileSync(log(), bench.path("copy"));
        unlinkSync(log());
        renameSync(bench.path("copy"), log());
        appendFileSync(log(), "3\n");
      },
    );
    expect(texts(lines)).toEqual(["3"]);
  });

  it("with a second name for the same file, reads it once", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "1\n"),
      () => {
        linkSync(log(), bench.path("b.log"));
        appendFileSync(log(), "2\n");
      },
    );
    expect(texts(lines)).toEqual(["2"]);
  });

  it("reads the rest of an unfinished line as a record of its own", async () => {
    const lines = await afterDowntime(
      () => writeFileSync(log(), "begin"),
      () => appendFileSync(log(), " end\n"),
    );
    expect(lines.map(({ text, offset }) => [text, offset])).toEqual([[" end", 5]]);
  });

  it("keeps the position of a file whose folder is gone, and reads on when it is back", async () => {
    mkdirSync(bench.path("mnt"));
    const include = { include: [`${bench.folder}/mnt/*.log`] };
    writeFileSync(bench.path("mnt/a.log"), "1\n");
    await bench.once(include);
    renameSync(bench.path("mnt"), bench.path("elsewhere"));
    bench.events.length = 0;
    expect(await bench.once(include)).toEqual([]);
    expect(bench.eventsNamed("file_unreadable")).toHaveLength(1);
    expect(bench.eventsNamed("gap")).toEqual([]);
    renameSync(bench.path("elsewhere"), bench.path("mnt"));
    appendFileSync(bench.path("mnt/a.log"), "2\n");
    expect(texts(await bench.once(include))).toEqual(["2"]);
  });

  it("keeps the position of a file that cannot be opened", async () => {
    writeFileSync(log(), "1\n");
    await bench.once();
    appendFileSync(log(), "2\n");
    // Permissions mean nothing to root, who runs this in CI.
    const fileSystem = new FaultyFileSystem(nodeFileSystem);
    fileSystem.fail({ call: "open", path: log() as BytePath, times: 2, fails: "EACCES" });
    const run = bench.start({}, { fileSystem });
    await until(
      () => run.lines.length > 0,
      () => bench.events,
    );
    await run.stop();
    expect(texts(run.lines)).toEqual(["2"]);
    expect(bench.eventsNamed("file_unreadable")).toHaveLength(1);
    expect(bench.eventsNamed("file_readable")).toHaveLength(1);
  });

  it("repeats what was not committed, with the same ids, out of an archive too", async () => {
    writeFileSync(log(), "1\n2\n3\n");
    const first = bench.start({}, { settles: false });
    while (first.lines.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    await first.kill();
    writeFileSync(rotated(1, ".gz"), gzipSync("1\n2\n3\n4\n"));
    unlinkSync(log());
    const lines = await bench.once();
    expect(lines.slice(0, 3).map((line) => line.id)).toEqual(first.lines.map((line) => line.id));
    expect(texts(lines)).toEqual(["1", "2", "3", "4"]);
  });
});
