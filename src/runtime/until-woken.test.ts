import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { untilWoken } from "./until-woken.ts";

describe("untilWoken", () => {
  it("resolves when it is woken, and leaves no listener on a signal that lives longer", async () => {
    const { signal } = new AbortController();
    for (let round = 0; round < 100; round += 1) {
      let wake = () => {};
      const woken = untilWoken(signal, (given) => {
        wake = given;
      });
      expect(getEventListeners(signal, "abort")).toHaveLength(1);
      wake();
      await woken;
    }
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  it("resolves when the signal aborts, before or while it waits", async () => {
    const abort = new AbortController();
    const waiting = untilWoken(abort.signal, () => {});
    abort.abort();
    await waiting;
    await untilWoken(abort.signal, () => {});
  });
});
