import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import { SignalMonitor } from "./signal-monitor.ts";

function setup() {
  const emitter = new EventEmitter();
  const calls: string[] = [];
  const monitor = new SignalMonitor(emitter, {
    terminate: (signal) => calls.push(`terminate ${signal}`),
    force: (signal) => calls.push(`force ${signal}`),
    reload: () => calls.push("reload"),
    rotate: () => calls.push("rotate"),
  });
  return { emitter, calls, monitor };
}

describe("SignalMonitor", () => {
  it.each(["SIGTERM", "SIGINT"])("asks for a graceful stop on the first %s and forces on any second", (first) => {
    const { emitter, calls } = setup();
    emitter.emit(first);
    emitter.emit("SIGINT");
    emitter.emit("SIGTERM");
    expect(calls).toEqual([`terminate ${first}`, "force SIGINT", "force SIGTERM"]);
  });

  it("reloads on SIGHUP and rotates on SIGUSR1, as often as they come", () => {
    const { emitter, calls } = setup();
    for (const signal of ["SIGHUP", "SIGUSR1", "SIGHUP"]) emitter.emit(signal);
    expect(calls).toEqual(["reload", "rotate", "reload"]);
  });

  it("does not reload what is about to end, but still rotates", () => {
    const { emitter, calls } = setup();
    for (const signal of ["SIGTERM", "SIGHUP", "SIGUSR1"]) emitter.emit(signal);
    expect(calls).toEqual(["terminate SIGTERM", "rotate"]);
  });

  it("leaves signals without effect where only the exit is left, with one listener for each however often", () => {
    const { emitter, calls, monitor } = setup();
    monitor.closeForGood();
    monitor.closeForGood();
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"]) {
      expect(emitter.listenerCount(signal)).toBe(1);
      emitter.emit(signal);
    }
    expect(calls).toEqual([]);
  });

  it("takes away its own listeners only", () => {
    const { emitter, calls, monitor } = setup();
    emitter.on("SIGUSR1", () => calls.push("early listener"));
    monitor.close();
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"]) emitter.emit(signal);
    expect(calls).toEqual(["early listener"]);
  });
});
