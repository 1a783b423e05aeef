import { describe, expect, it } from "vitest";
import { Checkpoint } from "./checkpoint.ts";
import type { Change } from "./checkpoint-store.ts";
import { GroupCommit } from "./group-commit.ts";
import { MemoryCheckpointStore } from "./memory-store.ts";

const note = (name: string, value: number): Change => ({ table: "note", name, value });

/** A store whose commits wait until they are let through, and a record of what each one held. */
function heldStore() {
  const transactions: (readonly Change[])[] = [];
  const gates: (() => void)[] = [];
  const store = new MemoryCheckpointStore({
    beforeCommit(changes) {
      transactions.push(changes);
      return new Promise((resolve) => gates.push(resolve));
    },
  });
  return { store, transactions, release: () => gates.shift()!() };
}

function clockFrom(ms: number[]) {
  return { monotonic: () => ms.shift() ?? 0 };
}

async function microtasks(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

describe("GroupCommit", () => {
  it("starts at once, and joins what comes meanwhile into the next transaction, one at a time", async () => {
    const { store, transactions, release } = heldStore();
    const group = new GroupCommit(store, { clock: clockFrom([]) });
    const ended: string[] = [];
    const submit = (name: string) => group.submit([note(name, 1)]).then(() => ended.push(name));
    void submit("a");
    await microtasks();
    void submit("b");
    void submit("c");
    await microtasks();
    expect(transactions).toEqual([[note("a", 1)]]);
    release();
    await microtasks();
    expect(ended).toEqual(["a"]);
    expect(transactions[1]).toEqual([note("b", 1), note("c", 1)]);
    release();
    await microtasks();
    expect(ended).toEqual(["a", "b", "c"]);
    expect(group.commits).toBe(2);
  });

  it("joins what is submitted in one go", async () => {
    const store = new MemoryCheckpointStore();
    const group = new GroupCommit(store, { clock: clockFrom([]) });
    await Promise.all([group.submit([note("a", 1)]), group.submit([note("b", 1)])]);
    expect(store.commits).toBe(1);
  });

  it("updates the view after the flush and before anybody goes on", async () => {
    const { store, release } = heldStore();
    const view = new Checkpoint();
    const group = new GroupCommit(store, { clock: clockFrom([]), onCommitted: (changes) => view.applied(changes) });
    let seen: unknown;
    const done = group.submit([note("a", 1)]).then(() => {
      seen = view.note("a");
    });
    await microtasks();
    expect(view.note("a")).toBeUndefined();
    release();
    await done;
    expect(seen).toBe(1);
  });

  it("tells all who submitted to a failed transaction, moves nothing, and goes on with the next", async () => {
    const store = new MemoryCheckpointStore();
    const view = new Checkpoint();
    const group = new GroupCommit(store, { clock: clockFrom([]), onCommitted: (changes) => view.applied(changes) });
    store.failNextCommit();
    const results = await Promise.allSettled([group.submit([note("a", 1)]), group.submit([note("b", 1)])]);
    for (const result of results) expect(result).toMatchObject({ reason: { code: "TR_COMMIT_FAILED" } });
    expect([...view.notes.keys()]).toEqual([]);
    expect((await store.load()).notes).toEqual([]);
    await group.submit([note("c", 1)]);
    expect([...view.notes.keys()]).toEqual(["c"]);
    expect([group.commits, group.failures]).toEqual([1, 1]);
  });

  it("asks contributors right before each transaction, lets submitted changes win, and starts none for them", async () => {
    const store = new MemoryCheckpointStore();
    const group = new GroupCommit(store, { clock: clockFrom([]) });
    let pending = [note("lazy", 1), note("both", 1)];
    const durable: Change[] = [];
    const end = group.contribute({
      take: () => pending.splice(0),
      committed: (changes) => durable.push(...changes),
      failed: (changes) => {
        pending = [...changes, ...pending];
      },
    });
    await microtasks();
    expect(store.commits).toBe(0);
    store.failNextCommit();
    await expect(group.submit([note("both", 2)])).rejects.toMatchObject({ code: "TR_COMMIT_FAILED" });
    expect(durable).toEqual([]);
    await group.submit([note("both", 2)]);
    expect(durable).toEqual([note("lazy", 1), note("both", 1)]);
    expect((await store.load()).notes).toEqual([
      { name: "lazy", value: 1 },
      { name: "both", value: 2 },
    ]);
    pending = [note("late", 1)];
    await group.submit([]);
    expect((await store.load()).notes).toHaveLength(3);
    end();
    pending = [note("never", 1)];
    await group.submit([note("x", 1)]);
    expect((await store.load()).notes).toHaveLength(4);
  });

  it("commits nothing when there is nothing", async () => {
    const store = new MemoryCheckpointStore();
    const group = new GroupCommit(store, { clock: clockFrom([]) });
    await group.submit([]);
    expect([store.commits, group.commits]).toEqual([0, 0]);
  });

  it("fails a transaction whose contributor throws, and gives the others theirs back", async () => {
    const store = new MemoryCheckpointStore();
    const group = new GroupCommit(store, { clock: clockFrom([]) });
    const back: Change[] = [];
    group.contribute({ take: () => [note("a", 1)], failed: (changes) => back.push(...changes) });
    const end = group.contribute({
      take: () => {
        throw new Error("broken");
      },
      failed: () => {},
    });
    await expect(group.submit([note("b", 1)])).rejects.toThrow("broken");
    expect(back).toEqual([note("a", 1)]);
    end();
    await group.submit([note("b", 1)]);
    expect((await store.load()).notes).toHaveLength(2);
  });

  it("measures each transaction in seconds, failed ones too", async () => {
    const store = new MemoryCheckpointStore();
    const seconds: number[] = [];
    const group = new GroupCommit(store, {
      clock: clockFrom([1000, 1250, 2000, 2500]),
      observeSeconds: (value) => seconds.push(value),
    });
    await group.submit([note("a", 1)]);
    store.failNextCommit();
    await expect(group.submit([note("b", 1)])).rejects.toThrow();
    expect(seconds).toEqual([0.25, 0.5]);
  });

  it("waits at close for what was submitted, and takes nothing after it", async () => {
    const { store, release } = heldStore();
    const group = new GroupCommit(store, { clock: clockFrom([]) });
    const first = group.submit([note("a", 1)]);
    await microtasks();
    const second = group.submit([note("b", 1)]);
    let isClosed = false;
    const closed = group.close().then(() => {
      isClosed = true;
    });
    await expect(group.submit([note("c", 1)])).rejects.toMatchObject({ code: "TR_COMMIT_FAILED" });
    release();
    await first;
    await microtasks();
    expect(isClosed).toBe(false);
    release();
    await Promise.all([second, closed]);
    expect((await store.load()).notes).toHaveLength(2);
  });
});
