import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { ChannelRegistry } from "../channel/index.ts";
import { StageError } from "../errors.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { CancellationToken } from "./cancellation-token.ts";
import { Supervisor, type SupervisorOptions } from "./supervisor.ts";

function setup(options: Partial<SupervisorOptions> = {}) {
  const clock = new ManualClock();
  const token = new CancellationToken();
  const lines: { level: string; message: string; fields: { readonly [field: string]: unknown } }[] = [];
  const exits: number[] = [];
  let endShutdown: (() => void) | undefined;
  let failShutdown: ((error: Error) => void) | undefined;
  let shutdowns = 0;
  const supervisor = new Supervisor({
    clock,
    token,
    log: {
      error: (fields, message) => void lines.push({ level: "error", fields, message }),
      info: (fields, message) => void lines.push({ level: "info", fields, message }),
    },
    shutdown: () => {
      shutdowns += 1;
      return new Promise((resolve, reject) => {
        endShutdown = resolve;
        failShutdown = reject;
      });
    },
    gracefulTimeoutMs: 10_000,
    onSignalTimeoutMs: 0,
    forceExit: (code) => exits.push(code),
    ...options,
  });
  return {
    clock,
    token,
    lines,
    exits,
    supervisor,
    errors: () => lines.filter((line) => line.level === "error").map((line) => line.message),
    endShutdown: () => endShutdown?.(),
    failShutdown: (error: Error) => failShutdown?.(error),
    shutdowns: () => shutdowns,
  };
}

describe("Supervisor", () => {
  it("turns the first error into a graceful shutdown and exit code 1, also when it drains in time", async () => {
    const { clock, token, supervisor, lines, exits, endShutdown, shutdowns } = setup();
    const running = supervisor.run();
    await clock.settle();
    expect(shutdowns()).toBe(0);
    const error = new StageError("TR_STAGE_FAILED", "out", "the disk is gone");
    supervisor.report(error, "out");
    await clock.settle();
    expect(token.signal.reason).toBe(error);
    expect(shutdowns()).toBe(1);
    endShutdown();
    expect(await running).toEqual({ exitCode: 1, isForced: false, first: { error, component: "out" }, errors: 1 });
    expect(lines[0]).toMatchObject({
      level: "error",
      message: "Pipeline error received: out: the disk is gone",
      fields: { component: "out", code: "TR_STAGE_FAILED", err: error },
    });
    expect(exits).toEqual([]);
  });

  it("forces the exit when the graceful time-out expires", async () => {
    const { clock, supervisor, exits, errors } = setup();
    const running = supervisor.run();
    supervisor.report("no Error at all", "src");
    await clock.advance(9_999);
    expect(exits).toEqual([]);
    await clock.advance(1);
    expect(exits).toEqual([1]);
    expect(await running).toMatchObject({ exitCode: 1, isForced: true });
    expect(errors()).toEqual([
      "Pipeline error received: src: no Error at all",
      "Graceful shutdown timeout expired, forcing shutdown",
    ]);
  });

  it("takes an error that came before it ran", async () => {
    const { clock, supervisor, endShutdown } = setup();
    supervisor.report(new Error("early"), "src");
    const running = supervisor.run();
    await clock.settle();
    endShutdown();
    expect((await running).first?.error.message).toBe("early");
  });

  it("keeps the first errors and counts the rest", async () => {
    const registry = new ChannelRegistry();
    const { clock, supervisor, endShutdown, errors } = setup({ registry, errorBufferSize: 2 });
    const running = supervisor.run();
    await clock.settle();
    for (let number = 1; number <= 6; number += 1) supervisor.report(new Error(`error ${number}`), "src");
    await clock.settle();
    expect(registry.list()).toMatchObject([{ component: "runtime", channel: "supervisor", capacity: 2 }]);
    expect(registry.list()[0]!.counters()).toMatchObject({ sent: 6, received: 1, dropped: { policy: 3 } });
    endShutdown();
    expect(await running).toMatchObject({ exitCode: 1, errors: 6, first: { error: { message: "error 1" } } });
    expect(errors()).toEqual([
      "Pipeline error received: src: error 1",
      "A later error: src: error 2",
      "A later error: src: error 3",
      "3 more errors came after these",
    ]);
  });

  it("has room for 64 errors unless told otherwise", () => {
    const registry = new ChannelRegistry();
    setup({ registry });
    expect(registry.list()[0]?.capacity).toBe(64);
  });

  it("ends a signal's shutdown with exit code 0, without a limit of its own", async () => {
    const { clock, token, supervisor, endShutdown, lines, exits } = setup();
    const running = supervisor.run();
    supervisor.terminate("SIGTERM");
    await clock.advance(3_600_000);
    expect(token.isCancelled).toBe(true);
    expect(exits).toEqual([]);
    endShutdown();
    expect(await running).toEqual({ exitCode: 0, isForced: false, first: undefined, errors: 0 });
    expect(lines.map((line) => line.message)).toEqual([
      "Received SIGTERM, initiating graceful shutdown",
      "Graceful shutdown complete",
    ]);
  });

  it("forces a signal's shutdown after onSignalTimeoutMs, if that is set", async () => {
    const { clock, supervisor, exits, errors } = setup({ onSignalTimeoutMs: 500 });
    const running = supervisor.run();
    supervisor.terminate("SIGINT");
    await clock.advance(500);
    expect(exits).toEqual([1]);
    expect(await running).toMatchObject({ exitCode: 1, isForced: true });
    expect(errors()).toEqual(["Graceful shutdown timeout expired, forcing shutdown"]);
  });

  it("ends at once with exit code 1 on a second signal", async () => {
    const { clock, supervisor, exits, errors } = setup();
    const running = supervisor.run();
    supervisor.terminate("SIGTERM");
    await clock.settle();
    supervisor.force("SIGINT");
    expect(exits).toEqual([1]);
    expect(await running).toMatchObject({ exitCode: 1, isForced: true });
    expect(errors()).toEqual(["Received SIGINT again, forcing shutdown"]);
  });

  it("does not begin a shutdown that was forced before", async () => {
    const { supervisor, shutdowns } = setup();
    const running = supervisor.run();
    supervisor.terminate("SIGTERM");
    supervisor.force("SIGTERM");
    expect(await running).toMatchObject({ exitCode: 1, isForced: true });
    expect(shutdowns()).toBe(0);
  });

  it("limits a signal's shutdown once an error falls into it, counted from the error", async () => {
    const { clock, supervisor, exits } = setup();
    const running = supervisor.run();
    supervisor.terminate("SIGTERM");
    await clock.advance(60_000);
    supervisor.report(new Error("late"), "out");
    await clock.advance(9_999);
    expect(exits).toEqual([]);
    await clock.advance(1);
    expect(exits).toEqual([1]);
    expect(await running).toMatchObject({ exitCode: 1, isForced: true, first: { component: "out" } });
  });

  it("never lengthens a limit that stands", async () => {
    const { clock, supervisor, exits } = setup({ onSignalTimeoutMs: 5_000 });
    void supervisor.run();
    supervisor.terminate("SIGTERM");
    await clock.advance(4_000);
    supervisor.report(new Error("late"), "out");
    await clock.advance(1_000);
    expect(exits).toEqual([1]);
  });

  it("gives exit code 1 for an error in the last moment of a shutdown that drains", async () => {
    const { clock, supervisor, endShutdown } = setup();
    const running = supervisor.run();
    supervisor.terminate("SIGTERM");
    await clock.settle();
    endShutdown();
    supervisor.report(new Error("last moment"), "out");
    expect(await running).toMatchObject({ exitCode: 1, isForced: false, first: { component: "out" } });
  });

  it("takes a shutdown that fails as an error", async () => {
    const { clock, supervisor, failShutdown } = setup();
    const running = supervisor.run();
    supervisor.terminate("SIGTERM");
    await clock.settle();
    failShutdown(new Error("a channel did not close"));
    expect(await running).toMatchObject({ exitCode: 1, isForced: false, first: { component: "shutdown" } });
  });

  it("closes down in order, cancelling nothing, when the work ends by itself", async () => {
    const { clock, token, supervisor, endShutdown, exits } = setup({ onSignalTimeoutMs: 500 });
    const running = supervisor.run();
    supervisor.finish();
    await clock.advance(3_600_000);
    expect(token.isCancelled).toBe(false);
    endShutdown();
    expect(await running).toMatchObject({ exitCode: 0 });
    expect(exits).toEqual([]);
  });

  it("obeys a signal while it closes down by itself", async () => {
    const { clock, token, supervisor, exits } = setup({ onSignalTimeoutMs: 500 });
    void supervisor.run();
    supervisor.finish();
    await clock.advance(60_000);
    supervisor.terminate("SIGTERM");
    expect(token.isCancelled).toBe(true);
    await clock.advance(500);
    expect(exits).toEqual([1]);
  });

  it("leaves no timer behind a shutdown that drained", async () => {
    const { clock, supervisor, endShutdown, exits } = setup();
    const running = supervisor.run();
    supervisor.report(new Error("x"), "src");
    await clock.settle();
    endShutdown();
    await running;
    await clock.advance(60_000);
    expect(exits).toEqual([]);
  });

  it("logs an error that comes after the end", async () => {
    const { clock, supervisor, endShutdown, errors } = setup();
    const running = supervisor.run();
    supervisor.terminate("SIGTERM");
    await clock.settle();
    endShutdown();
    await running;
    supervisor.report(new Error("too late"), "out");
    expect(errors()).toEqual(["Error after the end: out: too late"]);
  });

  it("takes what nobody caught as an error of the process, until it stops watching", async () => {
    for (const event of ["uncaughtException", "unhandledRejection"]) {
      const { clock, supervisor, endShutdown } = setup();
      const process = new EventEmitter();
      const watch = supervisor.watch(process);
      const running = supervisor.run();
      process.emit(event, new Error("nobody caught it"));
      await clock.settle();
      endShutdown();
      expect(await running).toMatchObject({ exitCode: 1, first: { component: "process" } });
      watch[Symbol.dispose]();
      expect(process.eventNames()).toEqual([]);
    }
  });

  it("counts strays that a predicate recognises and reports the rest", async () => {
    const { clock, supervisor, shutdowns } = setup();
    const process = new EventEmitter();
    supervisor.watch(process);
    supervisor.ignoreStray(() => {
      throw new Error("a predicate with a bug");
    });
    const undo = supervisor.ignoreStray((error) => error.message === "stray");
    void supervisor.run();
    process.emit("unhandledRejection", new Error("stray"));
    await clock.settle();
    expect([supervisor.strayErrors, shutdowns()]).toEqual([1, 0]);
    undo();
    process.emit("unhandledRejection", new Error("stray"));
    await clock.settle();
    expect([supervisor.strayErrors, shutdowns()]).toEqual([1, 1]);
  });
});
