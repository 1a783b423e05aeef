import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import type { SourceStatus } from "../stage/contract.ts";
import { defineSource } from "../stage/define.ts";
import type { Logger } from "../telemetry/log.ts";
import { type MemoryTarget, memorySink, memorySource } from "../testing/memory-stages.ts";
import { pipeline } from "./pipeline-builder.ts";
import { unreadableText } from "./unreadable.ts";

let stateDir = "";
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), "tailrace-unreadable-"));
});
afterEach(() => rmSync(stateDir, { recursive: true, force: true }));

/** Delivers three lines, and could not read some files. */
function source(unreadable: SourceStatus["unreadable"]) {
  const lines = memorySource(new Map([["x", ["one", "two", "three"]]]));
  return defineSource({
    ...lines,
    options: z.strictObject({}),
    open: async (options, context) => {
      const opened = await lines.open(options, context);
      return Object.assign(opened, {
        status: () => ({ files: 1, lagBytes: 0, ...(unreadable === undefined ? {} : { unreadable }) }),
      });
    },
  });
}

const collect = (errors: string[]): Logger => {
  const log: Logger = {
    debug() {},
    info() {},
    warn() {},
    error: (_: object, message: string) => void errors.push(message),
    child: () => log,
  } as unknown as Logger;
  return log;
};

describe("a run to the end of what is there", () => {
  const run = (unreadable: SourceStatus["unreadable"], out: MemoryTarget, errors: string[]) => {
    const sink = { ...memorySink(out), options: z.strictObject({}) };
    return pipeline()
      .from(source(unreadable))
      .into(sink)
      .run({ stateDir: join(stateDir, "state"), once: true, log: collect(errors) });
  };

  it("delivers what could be read, and fails with the list of what could not", async () => {
    const out: MemoryTarget = { texts: [], mark: 0 };
    const errors: string[] = [];
    const secret = { path: "/var/log/secret.log", reason: "permission denied" };
    await expect(run([secret], out, errors)).rejects.toThrow(
      "1 file could not be read: /var/log/secret.log (permission denied)",
    );
    expect(out.texts).toEqual(["one", "two", "three"]);
    expect(errors).toEqual(["1 file could not be read: /var/log/secret.log (permission denied)"]);
  });

  it("succeeds where all could be read", async () => {
    const out: MemoryTarget = { texts: [], mark: 0 };
    const errors: string[] = [];
    await run([], out, errors);
    await run(undefined, out, errors);
    expect(errors).toEqual([]);
  });
});

describe("unreadableText", () => {
  it("lists a hundred, and counts the rest", () => {
    const files = Array.from({ length: 150 }, (_, index) => ({ path: `/f${index}`, reason: "damaged" }));
    const text = unreadableText(files);
    expect(text).toMatch(/^150 files could not be read: \/f0 \(damaged\); \/f1 \(damaged\); .*; and 50 more$/);
    expect(text).not.toContain("/f100");
  });
});
