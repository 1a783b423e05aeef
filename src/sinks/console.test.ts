import { spawn } from "node:child_process";
import { once } from "node:events";
import { PassThrough, Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { StageError } from "../errors.ts";
import { silentLogger } from "../telemetry/log.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { blackholeSink } from "./blackhole.ts";
import { consoleSink, openConsole } from "./console.ts";

const context = { name: "out", log: silentLogger };
const { signal } = new AbortController();
const options = (encoding: "json" | "text" | "raw") => consoleSink.options.parse({ encoding });

describe("console sink", () => {
  it("writes events as JSON unless told otherwise, one a line", async () => {
    const stream = new PassThrough();
    const sink = openConsole(consoleSink.options.parse({}), context, stream);
    expect(await sink.write(linesBatch("app", "k", 0, ["one", "two"]), { signal })).toEqual({ kind: "delivered" });
    const lines = String(stream.read()).trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ message: "one" }, { message: "two" }]);
  });

  it("delivers a batch only when the reader has room for it", async () => {
    const taken: (() => void)[] = [];
    const stream = new Writable({ write: (_bytes, _encoding, done) => void taken.push(() => done()) });
    const sink = openConsole(options("raw"), context, stream);
    let isDelivered = false;
    const writing = sink.write(linesBatch("app", "k", 0, ["one"]), { signal }).then((outcome) => {
      isDelivered = true;
      return outcome;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect([taken.length, isDelivered]).toEqual([1, false]);
    taken[0]!();
    expect(await writing).toEqual({ kind: "delivered" });
  });

  it("fails for good once its reader is gone", async () => {
    const reader = spawn("head", ["-n", "1"], { stdio: ["pipe", "pipe", "ignore"] });
    const sink = openConsole(options("text"), context, reader.stdin);
    const batch = linesBatch("app", "k", 0, ["one"]);
    await sink.write(batch, { signal });
    await once(reader, "exit");
    const failure = (async () => {
      // The kernel may take what nobody will read once more before it says so.
      for (;;) await sink.write(batch, { signal });
    })();
    await expect(failure).rejects.toBeInstanceOf(StageError);
  });

  it("answers any other failure with retry", async () => {
    const stream = new Writable({
      write: (_bytes, _encoding, done) => done(Object.assign(new Error("full"), { code: "ENOSPC" })),
    });
    const sink = openConsole(options("raw"), context, stream);
    expect(await sink.write(linesBatch("app", "k", 0, ["one"]), { signal })).toMatchObject({ kind: "retry" });
  });
});

describe("blackhole sink", () => {
  it("takes everything", async () => {
    const sink = await blackholeSink.open({}, {} as never);
    expect(await sink.write(linesBatch("app", "k", 0, ["one"]), { signal })).toEqual({ kind: "delivered" });
  });
});
