import { describe, expect, it } from "vitest";
import { memoryStageChannels } from "../../testing/memory-stage-channels.ts";
import { QueueNotices } from "./queue-notices.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("queue notices", () => {
  it("has one notice of a queue wait, however many notifications come, and never holds up who notifies", async () => {
    const channels = memoryStageChannels(1);
    const woken: string[] = [];
    const queues = ["a", "b", "c", "d"].map((name) => QueueNotices.listen(channels, () => void woken.push(name)));
    // A burst within one turn of the event loop: nobody reads the channel meanwhile, and it has room for one.
    for (let round = 0; round < 1000; round += 1) for (const queue of queues) queue.notify();
    await turn();
    expect(woken).toEqual(["a", "b", "c", "d"]);
    // One that comes after the notice was taken is about something new.
    queues[1]!.notify();
    await turn();
    expect(woken).toEqual(["a", "b", "c", "d", "b"]);
    for (const queue of queues) await queue.release();
  });

  it("are made anew once all queues are released", async () => {
    const channels = memoryStageChannels(1);
    for (let round = 0; round < 2; round += 1) {
      let woken = 0;
      const queue = QueueNotices.listen(channels, () => {
        woken += 1;
      });
      queue.notify();
      await turn();
      expect(woken).toBe(1);
      await queue.release();
      queue.notify();
      await turn();
      expect(woken).toBe(1);
    }
  });
});
