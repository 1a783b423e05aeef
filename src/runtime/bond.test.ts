import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { Bond } from "./bond.ts";
import { untilWoken } from "./until-woken.ts";

describe("bond", () => {
  const { signal: never } = new AbortController();
  const untilAborted = (signal: AbortSignal) => untilWoken(signal, () => {});

  it("ends all parts when one has had enough", async () => {
    const bond = new Bond(never);
    const parts = [untilAborted(bond.signal), untilAborted(bond.signal)];
    const failure = await bond.hold(async () => {
      bond.end();
      await Promise.all(parts);
    });
    expect(failure).toBeUndefined();
  });

  it("ends all parts when one fails, and takes what follows from that for no failure", async () => {
    const bond = new Bond(never);
    const failure = await bond.hold(async () => {
      await Promise.all([
        Promise.reject(new Error("the connection broke")).catch(bond.fail),
        untilAborted(bond.signal).then(() => bond.fail(new Error("nothing to write to"))),
      ]);
    });
    expect(failure?.message).toBe("the connection broke");
  });

  it("ends without a failure when the outer signal aborts, and leaves nothing on one that lives longer", async () => {
    const stop = new AbortController();
    const bond = new Bond(stop.signal);
    const held = bond.hold(() => untilAborted(bond.signal));
    stop.abort();
    expect(await held).toBeUndefined();

    const done = new Bond(never);
    expect(getEventListeners(never, "abort")).toHaveLength(1);
    await done.hold(async () => {});
    expect(done.signal.aborted).toBe(true);
    expect(getEventListeners(never, "abort")).toHaveLength(0);
  });

  it("tells of a work that was told to end before it had made what it needs", async () => {
    const stop = new AbortController();
    stop.abort();
    const bond = new Bond(stop.signal);
    const failure = await bond.hold(async () => {
      if (bond.signal.aborted) throw new Error("it was told to stop while it joined");
    });
    expect(failure?.message).toBe("it was told to stop while it joined");
  });
});
