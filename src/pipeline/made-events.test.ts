import { describe, expect, it } from "vitest";
import { linesBatch } from "../testing/memory-stages.ts";
import { MadeEvents } from "./made-events.ts";

const never = new AbortController().signal;
const batchOf = (events: number) =>
  linesBatch(
    "in",
    "x",
    0,
    Array.from({ length: events }, () => "x"),
  );

describe("MadeEvents", () => {
  it("lets no more be made than fits, whatever is asked for", async () => {
    const made = new MadeEvents();
    const held = [];
    let waits = 0;
    for (;;) {
      const batch = batchOf(1000);
      const abort = new AbortController();
      await made.room(batch, abort.signal, () => {
        waits += 1;
        abort.abort();
      });
      if (abort.signal.aborted) break;
      held.push(made.charge(batch, 1000));
      // Written; a sink keeps it until its commit.
      held.at(-1)!.keep!();
    }
    expect(waits).toBe(1);
    expect(held.length).toBeGreaterThan(10);
    expect(made.bytes).toBeLessThanOrEqual(16 * 1024 * 1024);
    for (const memory of held) memory.release();
    expect(made.bytes).toBe(0);
  });

  it("lets few events wait for a sink, and asks for no commit on their account", async () => {
    const made = new MadeEvents();
    const first = made.charge(batchOf(1000), 1000);
    const second = made.charge(batchOf(1000), 1000);
    let hasRoom = false;
    const waiting = made
      .room(batchOf(1000), never, () => expect.fail("nothing is kept for a commit"))
      .then(() => {
        hasRoom = true;
      });
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(hasRoom).toBe(false);
    const json = first.keepJson!(Buffer.from('{"a":1}\n'));
    const packed = first.packed!(json)!;
    first.release();
    second.release();
    await waiting;
    expect(json.toString()).toBe('{"a":1}\n');
    expect(made.bytes).toBe(json.length);
    // It had to be written again, and is kept anew.
    const again = packed.packed!(json)!;
    packed.release();
    expect(made.bytes).toBe(json.length);
    again.release();
    expect(made.bytes).toBe(0);
  });

  it("goes on once the last branch has given a batch back", async () => {
    const made = new MadeEvents();
    const memory = made.charge(batchOf(50_000), 50_000);
    memory.retain();
    let hasRoom = false;
    const waiting = made
      .room(batchOf(1000), never, () => {})
      .then(() => {
        hasRoom = true;
      });
    memory.release();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(hasRoom).toBe(false);
    memory.release();
    await waiting;
    expect(made.bytes).toBe(0);
  });

  it("takes a batch that is larger than all of it when there is nothing else, and counts what a split added", async () => {
    const made = new MadeEvents();
    await made.room(batchOf(100_000), never, () => expect.fail("it waited for nobody"));
    const memory = made.charge(batchOf(10), 100_000);
    expect(made.bytes).toBeGreaterThan(16 * 1024 * 1024);
    memory.release();
    expect(made.bytes).toBe(0);
  });
});
