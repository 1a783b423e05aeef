import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Change, CheckpointStore, FileEntry, StoredState } from "../checkpoint/checkpoint-store.ts";

/** What the suite is given for each test: a store in the making, which can be closed and opened again. */
export interface CheckpointStoreUnderTest {
  /** Opens the store; again after it was closed, as the next run of the program does. */
  open(): Promise<CheckpointStore>;
  /** Removes what the test left. */
  cleanUp?(): Promise<void>;
  /** Makes the next commit fail, where the store can be made to. */
  failNextCommit?(): void;
}

/** The contract of CheckpointStore, as a function of a factory: run it over every implementation, your own too. */
export function checkpointStoreContract(
  name: string,
  make: () => CheckpointStoreUnderTest | Promise<CheckpointStoreUnderTest>,
): void {
  describe(`${name} › CheckpointStore contract`, () => {
    let under: CheckpointStoreUnderTest;
    let store: CheckpointStore;

    beforeEach(async () => {
      under = await make();
      store = await under.open();
    });

    afterEach(async () => {
      await store.close();
      await under.cleanUp?.();
    });

    async function reopened(): Promise<CheckpointStore> {
      await store.close();
      store = await under.open();
      return store;
    }

    it("is empty when it is new", async () => {
      expect(await store.load()).toEqual({ positions: [], files: [], marks: [], notes: [] });
    });

    it("gives back every kind of row, at once and after it was opened again", async () => {
      await store.commit(oneOfEach("a"));
      expect(sorted(await store.load())).toEqual(sorted(stateOfEach("a")));
      expect(sorted(await (await reopened()).load())).toEqual(sorted(stateOfEach("a")));
    });

    it("removes a row whose value is undefined, and only that one", async () => {
      await store.commit([...oneOfEach("a"), ...oneOfEach("b")]);
      await store.commit(oneOfEach("a").map(withoutValue));
      expect(sorted(await (await reopened()).load())).toEqual(sorted(stateOfEach("b")));
    });

    it("takes the removal of a row that is not there", async () => {
      await store.commit(oneOfEach("a").map(withoutValue));
      expect((await store.load()).positions).toEqual([]);
    });

    it("lets the last of several changes of one row win, within a commit and across commits", async () => {
      await store.commit([note("n", 1), note("n", 2), note("gone", 1), note("gone", undefined)]);
      expect((await store.load()).notes).toEqual([{ name: "n", value: 2 }]);
      const commits = [3, 4, 5].map((value) => store.commit([note("n", value)]));
      await Promise.all(commits);
      expect((await store.load()).notes).toEqual([{ name: "n", value: 5 }]);
    });

    it("keeps rows of equal text in different fields apart", async () => {
      const rows: Change[] = [
        { table: "mark", sink: "a", name: "b:c", value: 1 },
        { table: "mark", sink: "a:b", name: "c", value: 2 },
        { table: "mark", sink: "", name: 'a","b', value: 3 },
        { table: "mark", sink: 'a","b', name: "", value: 4 },
        { table: "note", name: "a", value: 5 },
      ];
      await store.commit(rows);
      expect((await store.load()).marks.map((row) => row.value).sort()).toEqual([1, 2, 3, 4]);
    });

    it("takes names of any length and any characters", async () => {
      const names = [
        "",
        "\0",
        "schema",
        "#",
        '\u00ff\u0080 \n"\\',
        "\ud83d\ude00",
        "\ud800",
        "x".repeat(5000),
        `${"x".repeat(4999)}y`,
      ];
      await store.commit(names.map((name, value) => note(name, value)));
      const { notes } = await (await reopened()).load();
      expect(Object.fromEntries(notes.map((row) => [row.name, row.value]))).toEqual(
        Object.fromEntries(names.map((name, value) => [name, value])),
      );
      await store.commit(names.map((name) => note(name, undefined)));
      expect((await store.load()).notes).toEqual([]);
    });

    it("takes JSON values of any shape and size", async () => {
      const values = [null, true, 0, -1.5, "", "x".repeat(100_000), [], [1, [null]], {}, { a: { b: ["c"] } }];
      await store.commit(values.map((value, index) => note(`${index}`, value)));
      const { notes } = await (await reopened()).load();
      expect(new Map(notes.map((row) => [row.name, row.value]))).toEqual(
        new Map(values.map((value, index) => [`${index}`, value])),
      );
    });

    it("takes thousands of rows in one commit", async () => {
      const rows = Array.from({ length: 3000 }, (_, index) => note(`${index}`, index));
      await store.commit(rows);
      expect((await (await reopened()).load()).notes).toHaveLength(3000);
    });

    it("does nothing for a commit without changes", async () => {
      await store.commit([]);
      expect((await store.load()).notes).toEqual([]);
    });

    it("shares no object with its users", async () => {
      const value = { length: 1, list: [1] };
      const committing = store.commit([note("n", value)]);
      value.length = 2;
      value.list.push(2);
      await committing;
      const first = (await store.load()).notes[0]!.value as typeof value;
      expect(first).toEqual({ length: 1, list: [1] });
      first.list.push(3);
      expect((await store.load()).notes[0]!.value).toEqual({ length: 1, list: [1] });
    });

    it("refuses malformed rows before anything is changed", async () => {
      const bad: unknown[] = [
        { table: "position", sink: "s", source: "a", file: "f", value: { prefix: -1, ranges: [] } },
        { table: "position", sink: "s", source: "a", file: "f", value: { prefix: 4, ranges: [{ start: 4, end: 5 }] } },
        { table: "position", sink: "s", source: "a", file: "f", value: { prefix: 0.5, ranges: [] } },
        { table: "file", source: "a", file: "f", value: { ...entry(1), boundaries: [2, 1] } },
        { table: "mark", sink: "s", name: "n", value: Number.NaN },
        { table: "note", name: "n", value: { a: undefined } },
        { table: "note", name: "n", value: new Map() },
        { table: "note", name: 5, value: 1 },
      ];
      for (const change of bad) {
        await expect(store.commit([note("good", 1), change as Change])).rejects.toMatchObject({ code: "TR_INTERNAL" });
      }
      expect((await store.load()).notes).toEqual([]);
    });

    it("waits at close for the commits under way, and takes none after it", async () => {
      const commits = [1, 2, 3].map((value) => store.commit([note(`${value}`, value)]));
      await store.close();
      await Promise.all(commits);
      await expect(store.commit([note("late", 1)])).rejects.toMatchObject({ code: "TR_COMMIT_FAILED" });
      await store.close();
      store = await under.open();
      expect((await store.load()).notes).toHaveLength(3);
    });

    it("changes nothing when a commit fails, and takes the same changes again", async (context) => {
      if (under.failNextCommit === undefined) return context.skip();
      await store.commit([note("n", "old")]);
      under.failNextCommit();
      await expect(store.commit([note("n", "new"), note("m", 1)])).rejects.toMatchObject({ code: "TR_COMMIT_FAILED" });
      expect((await store.load()).notes).toEqual([{ name: "n", value: "old" }]);
      await store.commit([note("n", "new"), note("m", 1)]);
      expect(sorted(await (await reopened()).load()).notes).toEqual([
        { name: "m", value: 1 },
        { name: "n", value: "new" },
      ]);
    });
  });
}

function note(name: string, value: Extract<Change, { table: "note" }>["value"]): Change {
  return { table: "note", name, value };
}

function entry(generation: number): FileEntry {
  return {
    generation,
    fileSystem: "uuid:1234",
    inode: "18446744073709551615",
    birthNs: "0",
    fingerprint: { length: 1024, hash: "00ff" },
    guard: { length: 0, hash: "" },
    guardEnd: 0,
    names: ["/var/log/a.log", "/var/log/\u00ff.log"],
    lastSize: 2 ** 52,
    lastSeenMs: 1.5,
    boundaries: [1, 5],
    ...(generation === 0 ? {} : { tombstoneSinceMs: 7 }),
  };
}

function oneOfEach(tag: string): Change[] {
  return [
    { table: "position", sink: "out", source: tag, file: "f", value: { prefix: 7, ranges: [{ start: 9, end: 12 }] } },
    { table: "file", source: tag, file: "f", value: entry(tag.length) },
    { table: "mark", sink: tag, name: "length", value: { path: "/data/out", bytes: 5 } },
    { table: "note", name: tag, value: [1, "two", null] },
  ];
}

function stateOfEach(tag: string): StoredState {
  const [position, file, mark, each] = oneOfEach(tag).map(({ table: _, ...row }) => row);
  return { positions: [position], files: [file], marks: [mark], notes: [each] } as unknown as StoredState;
}

function withoutValue(change: Change): Change {
  return { ...change, value: undefined };
}

/** Rows in an order of their own: the contract promises none. */
function sorted(state: StoredState): StoredState {
  const inOrder = <Row>(rows: readonly Row[]): Row[] =>
    [...rows].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  return {
    positions: inOrder(state.positions),
    files: inOrder(state.files),
    marks: inOrder(state.marks),
    notes: inOrder(state.notes),
  };
}
