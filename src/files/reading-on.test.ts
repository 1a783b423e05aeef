import { beforeEach, describe, expect, it } from "vitest";
import { SimBench } from "./sim-bench.test-kit.ts";

let bench: SimBench;
beforeEach(() => {
  bench = new SimBench();
});

const LOG = "/logs/app.log";

describe("an open file", () => {
  it("that was truncated and filled beyond its position between two reads is read anew, as its guard says", async () => {
    const { programs } = bench;
    // Longer than the fingerprint, which would tell as long as it grows.
    const before = Array.from({ length: 300 }, (_, index) => `before ${index}`);
    const after = Array.from({ length: 400 }, (_, index) => `after ${index} the truncation`);
    programs.append(LOG, `${before.join("\n")}\n`);
    const run = await bench.start();
    await bench.pass(300);
    expect(run.lines).toEqual(before);
    // Nobody can see that it was shorter in between.
    programs.truncate(LOG);
    programs.append(LOG, `${after.join("\n")}\n`);
    await bench.pass(2000);
    await run.stop();
    expect(run.lines).toEqual([...before, ...after]);
  });

  it("that was renamed is kept open until it was quiet for rotate_wait_ms, also where its name is gone after that", async () => {
    const { programs } = bench;
    const writer = programs.openWriter(LOG);
    writer.write("1\n");
    const run = await bench.start({ rotateWaitMs: 5000 });
    await bench.pass(300);
    programs.rename(LOG, `${LOG}.1`);
    programs.append(LOG, "other\n");
    await bench.pass(1000);
    // Its last name goes, and with it everybody's way to it but ours.
    programs.unlink(`${LOG}.1`);
    await bench.pass(1000);
    writer.write("2\n");
    writer.close();
    await bench.pass(20_000);
    await run.stop();
    expect(run.lines.toSorted()).toEqual(["1", "2", "other"]);
  });
});
