import { beforeEach, describe, expect, it } from "vitest";
import { type BytePath, pathFromText } from "../runtime/byte-path.ts";
import { SimFileSystem } from "../testing/sim-file-system.ts";
import type { FileFacts } from "./file-report.ts";
import { PathPatterns } from "./glob.ts";
import { SimBench } from "./sim-bench.test-kit.ts";
import { whyAtRest } from "./why-at-rest.ts";

let bench: SimBench;
beforeEach(() => {
  bench = new SimBench();
});

const LOG = "/logs/app.log";

/** Of what the bench has stored, asked while nothing runs. */
function why(path: string, exclude: readonly string[] = []): Promise<FileFacts> {
  const { positions, disk } = bench;
  const stored = { entries: positions.stored, committedOf: (key: string) => positions.committedOf(key) };
  const patterns = new PathPatterns(["/logs/*.log"], exclude);
  const fileSystem = new SimFileSystem(disk, { clock: bench.clock.process() });
  return whyAtRest(pathFromText(path), patterns, stored, { fileSystem, readsArchives: true });
}

describe("whyAtRest", () => {
  it("knows a file under a second name, as the next run does: it reads nothing", async () => {
    bench.programs.append(LOG, "1\n22\n");
    await bench.read();
    bench.programs.link(LOG, "/logs/hard.log");
    bench.programs.symlink(LOG, "/logs/soft.log");
    expect((await why(LOG)).answer).toBe("no agent runs; the next one goes on at byte 5, with 0 bytes to read");
    for (const name of ["/logs/hard.log", "/logs/soft.log"]) {
      expect(await why(name)).toMatchObject({
        answer: `read once, as ${LOG}: both names lead to the same file; no agent runs; the next one goes on at byte 5, with 0 bytes to read`,
        names: [LOG],
        committed: 5,
      });
    }
    expect((await why("/logs/hard.log", ["hard.*"])).answer).toBe("not read: the exclude pattern hard.* leaves it out");
    expect(await bench.read()).toEqual([]);
    // Now the store holds all names.
    const answers = await Promise.all([LOG, "/logs/hard.log", "/logs/soft.log"].map((name) => why(name)));
    expect(answers.filter(({ answer }) => answer.startsWith(`read once, as ${LOG}: both names`))).toHaveLength(2);
  });

  it("knows a file that was renamed meanwhile, and that what is at its path now is another one", async () => {
    bench.programs.append(LOG, "1\n");
    await bench.read();
    bench.programs.append(LOG, "22\n");
    bench.programs.rename(LOG, `${LOG}.1`);
    bench.programs.append(LOG, "new\n");
    expect((await why(`${LOG}.1`)).answer).toBe("no agent runs; the next one goes on at byte 2, with 3 bytes to read");
    expect((await why(LOG)).answer).toBe("not read yet: no agent runs; the next one reads it as a new file");
    expect(await bench.read()).toEqual(["22", "new"]);
  });

  it("takes other content under a freed inode number for a new file", async () => {
    bench.programs.append(LOG, "1\n");
    await bench.read();
    bench.programs.unlink(LOG);
    bench.programs.append("/logs/b.log", "a\n");
    expect([...bench.positions.stored.values()].map(({ inode }) => inode)).toEqual([
      String(
        new SimFileSystem(bench.disk, { clock: bench.clock.process() }).statSync("/logs/b.log" as BytePath)!.inode,
      ),
    ]);
    expect((await why("/logs/b.log")).answer).toBe("not read yet: no agent runs; the next one reads it as a new file");
    expect((await why(LOG)).answer).toBe("no agent runs; it is gone, and was delivered up to byte 2");
    expect(await bench.read()).toEqual(["a"]);
  });

  it("takes a file that was cut below its position for a new one", async () => {
    bench.programs.append(LOG, "1\n22\n");
    await bench.read();
    bench.programs.truncate(LOG);
    bench.programs.append(LOG, "x\n");
    expect((await why(LOG)).answer).toBe("not read yet: no agent runs; the next one reads it as a new file");
    expect(await bench.read()).toEqual(["x"]);
  });

  it("goes by the name where the content cannot be looked at, and by the content at an equal path", async () => {
    bench.programs.append(LOG, "1\n22\n");
    await bench.read();
    bench.programs.deny(LOG);
    expect((await why(LOG)).committed).toBe(5);
    bench.programs.deny(LOG, false);
    bench.programs.copy(LOG, "/logs/restored");
    bench.programs.rename("/logs/restored", LOG);
    expect((await why(LOG)).answer).toBe("no agent runs; the next one goes on at byte 5, with 0 bytes to read");
    expect(await bench.read()).toEqual([]);
  });
});
