import { describe, expect, it } from "vitest";
import { checkpointStoreContract } from "../testing/checkpoint-store-contract.ts";
import { MemoryCheckpointStore } from "./memory-store.ts";

describe("MemoryCheckpointStore › CheckpointStore contract", () => {
  const rules = checkpointStoreContract(
    () => {
      const store = new MemoryCheckpointStore();
      return {
        async open() {
          store.reopen();
          return store;
        },
        failNextCommit: () => store.failNextCommit(),
      };
    },
    { canFail: true },
  );
  for (const { title, run } of rules) it(title, run);
});

describe("MemoryCheckpointStore", () => {
  it("starts with the state that it is given", async () => {
    const first = new MemoryCheckpointStore();
    await first.commit([{ table: "mark", sink: "out", name: "length", value: 1 }]);
    const second = new MemoryCheckpointStore({ state: await first.load() });
    expect(await second.load()).toEqual(await first.load());
  });

  it("holds a commit back as long as its hook does, and the later ones behind it", async () => {
    const order: string[] = [];
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const store = new MemoryCheckpointStore({ beforeCommit: () => held });
    const first = store.commit([{ table: "note", name: "n", value: 1 }]).then(() => order.push("first"));
    const second = store.commit([{ table: "note", name: "n", value: 2 }]).then(() => order.push("second"));
    expect((await store.load()).notes).toEqual([]);
    release();
    await Promise.all([first, second]);
    expect(order).toEqual(["first", "second"]);
    expect((await store.load()).notes).toEqual([{ name: "n", value: 2 }]);
    expect(store.commits).toBe(2);
  });
});
