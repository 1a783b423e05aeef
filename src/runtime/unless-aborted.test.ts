import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { unlessAborted } from "./unless-aborted.ts";

describe("unlessAborted", () => {
  it("comes to what the promise comes to, and leaves no listener on a signal that lives longer", async () => {
    const { signal } = new AbortController();
    expect(await unlessAborted(Promise.resolve(7), signal)).toBe(7);
    await expect(unlessAborted(Promise.reject(new Error("refused")), signal)).rejects.toThrow("refused");
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  it("is undefined once the signal aborts, before or while it waits, and hears of no failure behind that", async () => {
    const stop = new AbortController();
    let refuse = (_: Error) => {};
    const late = new Promise<number>((_, reject) => {
      refuse = reject;
    });
    const waiting = unlessAborted(late, stop.signal);
    stop.abort();
    expect(await waiting).toBeUndefined();
    expect(await unlessAborted(late, stop.signal)).toBeUndefined();
    refuse(new Error("an unhandled rejection would end the process"));
    await new Promise((turn) => setImmediate(turn));
  });
});
