import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, it } from "vitest";
import { channel } from "./channel.ts";
import { setUnclosedHook, type UnclosedHandle, type UnclosedHook } from "./unclosed.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

let previous: UnclosedHook | undefined;
afterEach(() => {
  if (previous !== undefined) setUnclosedHook(previous);
});

/** Handles of this file that were told of; others' garbage of the same process is left out. */
function watch(): UnclosedHandle[] {
  const told: UnclosedHandle[] = [];
  previous = setUnclosedHook((handle) => {
    if (handle.madeAt.includes("unclosed.test")) told.push(handle);
  });
  return told;
}

async function collectUntil(isDone: () => boolean): Promise<void> {
  for (let round = 0; round < 200 && !isDone(); round += 1) {
    collectGarbage();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("an unclosed handle", () => {
  it("is told of with its side and the place where it was made", async () => {
    const told = watch();
    const { receiver } = channel<number>({ capacity: 1 });
    const forget = () => void channel<number>({ capacity: 1 }).sender.close();
    forget();
    const loseSender = () => void channel<number>({ capacity: 1 });
    loseSender();
    await collectUntil(() => told.some((handle) => handle.side === "sender"));
    expect(told.map((handle) => handle.side)).toContain("sender");
    expect(told[0]?.madeAt).toContain("unclosed.test");
    receiver.close();
  });

  it("is nobody's business once the channel is over", async () => {
    const told = watch();
    let collected = 0;
    const probe = new FinalizationRegistry(() => {
      collected += 1;
    });
    const use = () => {
      const closedByReceiver = channel<number>({ capacity: 1 });
      closedByReceiver.receiver.close();
      const closedBySender = channel<number>({ capacity: 1 });
      closedBySender.sender.close();
      const closedBoth = channel<number>({ capacity: 1 });
      closedBoth.sender.close();
      closedBoth.receiver.close();
      for (const ends of [closedByReceiver, closedBySender, closedBoth]) {
        probe.register(ends.sender, 0);
        probe.register(ends.receiver, 0);
      }
    };
    use();
    await collectUntil(() => collected === 6);
    await new Promise((resolve) => setImmediate(resolve));
    expect(collected).toBe(6);
    expect(told).toEqual([]);
  });
});
