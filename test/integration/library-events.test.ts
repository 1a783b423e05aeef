import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { builtInStages, type LifecycleEvent, pipeline } from "../../src/index.ts";

const file = {
  source: builtInStages.sources.find(({ type }) => type === "file")!,
  sink: builtInStages.sinks.find(({ type }) => type === "file")!,
};

/** One line through a pipeline that tells `onEvent`. */
async function run(onEvent: (event: LifecycleEvent) => void): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-library-"));
  try {
    writeFileSync(join(folder, "a.log"), "one\n");
    await pipeline()
      .from(file.source, { include: [join(folder, "a.log")] })
      .into(file.sink, { path: join(folder, "out.ndjson") })
      .run({ stateDir: join(folder, "state"), once: true, onEvent });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("pipeline › onEvent", () => {
  it("gets what happens, in order, up to the end", async () => {
    const seen: LifecycleEvent[] = [];
    await run((event) => seen.push(event));
    expect(seen.some(({ event }) => event === "file_opened")).toBe(true);
    expect(seen.at(-1)).toMatchObject({ event: "shutdown_phase", facts: { phase: "ended" } });
    const numbers = seen.map(({ number }) => number);
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
  });

  it("that throws ends the run with its error", async () => {
    const failure = new Error("as told");
    await expect(
      run(() => {
        throw failure;
      }),
    ).rejects.toBe(failure);
  });
});
