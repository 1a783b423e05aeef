import { deepStrictEqual, rejects, strictEqual } from "node:assert/strict";
import type { Change, CheckpointStore, FileEntry, StoredState } from "../checkpoint/checkpoint-store.ts";
import type { ContractCase } from "./contract-case.ts";

/** A store in the making, which can be closed and opened again; each case makes a new one. */
export interface CheckpointStoreUnderTest {
  /** Opens the store; again after it was closed, as the next run of the program does. */
  open(): Promise<CheckpointStore>;
  /** Removes what the case left. */
  cleanUp?(): Promise<void>;
  /** Makes the next commit fail, where the store can be made to. */
  failNextCommit?(): void;
}

/**
 * The contract of CheckpointStore: `for (const { title, run } of checkpointStoreContract(make)) it(title, run)`.
 * `canFail`: the stores that `make` gives have `failNextCommit`, so that what a failed commit leaves is among the rules.
 */
export function checkpointStoreContract(
  make: () => CheckpointStoreUnderTest,
  { canFail = false }: { canFail?: boolean } = {},
): readonly ContractCase[] {
  const cases: ContractCase[] = [];
  const rule = (title: string, check: (opened: OpenedStore) => Promise<void>) =>
    cases.push({ title, run: () => withStore(make(), check) });

  rule("is empty when it is new", async (opened) => {
    deepStrictEqual(await opened.store.load(), { positions: [], files: [], marks: [], notes: [] });
  });

  rule("gives back every kind of row, at once and after it was opened again", async (opened) => {
    await opened.store.commit(oneOfEach("a"));
    deepStrictEqual(sorted(await opened.store.load()), sorted(stateOfEach("a")));
    deepStrictEqual(sorted(await (await opened.again()).load()), sorted(stateOfEach("a")));
  });

  rule("removes a row whose value is undefined, and only that one", async (opened) => {
    await opened.store.commit([...oneOfEach("a"), ...oneOfEach("b")]);
    await opened.store.commit(oneOfEach("a").map(withoutValue));
    deepStrictEqual(sorted(await (await opened.again()).load()), sorted(stateOfEach("b")));
  });

  rule("takes the removal of a row that is not there", async (opened) => {
    await opened.store.commit(oneOfEach("a").map(withoutValue));
    deepStrictEqual((await opened.store.load()).positions, []);
  });

  rule("lets the last of several changes of one row win, within a commit and across commits", async (opened) => {
    await opened.store.commit([note("n", 1), note("n", 2), note("gone", 1), note("gone", undefined)]);
    deepStrictEqual((await opened.store.load()).notes, [{ name: "n", value: 2 }]);
    const commits = [3, 4, 5].map((value) => opened.store.commit([note("n", value)]));
    await Promise.all(commits);
    deepStrictEqual((await opened.store.load()).notes, [{ name: "n", value: 5 }]);
  });

  rule("keeps rows of equal text in different fields apart", async (opened) => {
    const rows: Change[] = [
      { table: "mark", sink: "a", name: "b:c", value: 1 },
      { table: "mark", sink: "a:b", name: "c", value: 2 },
      { table: "mark", sink: "", name: 'a","b', value: 3 },
      { table: "mark", sink: 'a","b', name: "", value: 4 },
      { table: "note", name: "a", value: 5 },
    ];
    await opened.store.commit(rows);
    deepStrictEqual((await opened.store.load()).marks.map((row) => row.value).sort(), [1, 2, 3, 4]);
  });

  rule("takes names of any length and any characters", async (opened) => {
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
    await opened.store.commit(names.map((name, value) => note(name, value)));
    const { notes } = await (await opened.again()).load();
    deepStrictEqual(
      Object.fromEntries(notes.map((row) => [row.name, row.value])),
      Object.fromEntries(names.map((name, value) => [name, value])),
    );
    await opened.store.commit(names.map((name) => note(name, undefined)));
    deepStrictEqual((await opened.store.load()).notes, []);
  });

  rule("takes JSON values of any shape and size", async (opened) => {
    const values = [null, true, 0, -1.5, "", "x".repeat(100_000), [], [1, [null]], {}, { a: { b: ["c"] } }];
    await opened.store.commit(values.map((value, index) => note(`${index}`, value)));
    const { notes } = await (await opened.again()).load();
    deepStrictEqual(
      new Map(notes.map((row) => [row.name, row.value])),
      new Map(values.map((value, index) => [`${index}`, value])),
    );
  });

  rule("takes thousands of rows in one commit", async (opened) => {
    const rows = Array.from({ length: 3000 }, (_, index) => note(`${index}`, index));
    await opened.store.commit(rows);
    strictEqual((await (await opened.again()).load()).notes.length, 3000);
  });

  rule("does nothing for a commit without changes", async (opened) => {
    await opened.store.commit([]);
    deepStrictEqual((await opened.store.load()).notes, []);
  });

  rule("shares no object with its users", async (opened) => {
    const value = { length: 1, list: [1] };
    const committing = opened.store.commit([note("n", value)]);
    value.length = 2;
    value.list.push(2);
    await committing;
    const first = (await opened.store.load()).notes[0]!.value as typeof value;
    deepStrictEqual(first, { length: 1, list: [1] });
    first.list.push(3);
    deepStrictEqual((await opened.store.load()).notes[0]!.value, { length: 1, list: [1] });
  });

  rule("refuses malformed rows before anything is changed", async (opened) => {
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
      await rejects(opened.store.commit([note("good", 1), change as Change]), { code: "TR_INTERNAL" });
    }
    deepStrictEqual((await opened.store.load()).notes, []);
  });

  rule("waits at close for the commits under way, and takes none after it", async (opened) => {
    const commits = [1, 2, 3].map((value) => opened.store.commit([note(`${value}`, value)]));
    await opened.store.close();
    await Promise.all(commits);
    await rejects(opened.store.commit([note("late", 1)]), { code: "TR_COMMIT_FAILED" });
    await opened.store.close();
    await opened.again();
    strictEqual((await opened.store.load()).notes.length, 3);
  });

  if (canFail)
    rule("changes nothing when a commit fails, and takes the same changes again", async (opened) => {
      await opened.store.commit([note("n", "old")]);
      opened.failNextCommit!();
      await rejects(opened.store.commit([note("n", "new"), note("m", 1)]), { code: "TR_COMMIT_FAILED" });
      deepStrictEqual((await opened.store.load()).notes, [{ name: "n", value: "old" }]);
      await opened.store.commit([note("n", "new"), note("m", 1)]);
      deepStrictEqual(sorted(await (await opened.again()).load()).notes, [
        { name: "m", value: 1 },
        { name: "n", value: "new" },
      ]);
    });

  return cases;
}

/** The store of one case; `again` closes and opens it. */
interface OpenedStore {
  store: CheckpointStore;
  again(): Promise<CheckpointStore>;
  readonly failNextCommit: (() => void) | undefined;
}

async function withStore(
  under: CheckpointStoreUnderTest,
  check: (opened: OpenedStore) => Promise<void>,
): Promise<void> {
  const opened: OpenedStore = {
    store: await under.open(),
    failNextCommit: under.failNextCommit?.bind(under),
    again: async () => {
      await opened.store.close();
      opened.store = await under.open();
      return opened.store;
    },
  };
  try {
    await check(opened);
  } finally {
    await opened.store.close();
    await under.cleanUp?.();
  }
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
