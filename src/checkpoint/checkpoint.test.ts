import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Checkpoint } from "./checkpoint.ts";
import type { Change, StoredState } from "./checkpoint-store.ts";
import { MemoryCheckpointStore } from "./memory-store.ts";

const name = fc.constantFrom("a", "b", "c");
const entry = fc.nat(9).map((generation) => ({
  generation,
  fileSystem: "fs",
  inode: "1",
  birthNs: "0",
  fingerprint: { length: 0, hash: "" },
  guard: { length: 0, hash: "" },
  guardEnd: 0,
  names: ["/a"],
  lastSize: 0,
  lastSeenMs: 0,
  boundaries: [],
}));
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({
    table: fc.constant("position" as const),
    sink: name,
    source: name,
    file: name,
    value: maybe(fc.nat(9).map((prefix) => ({ prefix, ranges: [] }))),
  }),
  fc.record({ table: fc.constant("file" as const), source: name, file: name, value: maybe(entry) }),
  fc.record({ table: fc.constant("mark" as const), sink: name, name, value: maybe(fc.nat(9)) }),
  fc.record({ table: fc.constant("note" as const), name, value: maybe(fc.nat(9)) }),
);

function sorted(state: StoredState): unknown {
  const rows = [state.positions, state.files, state.marks, state.notes];
  return rows.map((table) => table.map((row) => JSON.stringify(sortedKeys(row))).sort());
}

function sortedKeys(row: object): object {
  return Object.fromEntries(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1)));
}

describe("Checkpoint", () => {
  it("says the same whether it lived through the commits or is loaded from the store", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(change, { maxLength: 5 }), { maxLength: 8 }), async (commits) => {
        const store = new MemoryCheckpointStore();
        const view = new Checkpoint();
        for (const changes of commits) {
          await store.commit(changes);
          view.applied(changes);
        }
        const loaded = await Checkpoint.load(store);
        expect(sorted(view.state())).toEqual(sorted(await store.load()));
        expect(sorted(loaded.state())).toEqual(sorted(view.state()));
        expect(view.sources()).toEqual(loaded.sources());
        expect(view.sinks()).toEqual(loaded.sinks());
        for (const source of ["a", "b", "c"]) {
          expect(view.sinksOf(source)).toEqual(loaded.sinksOf(source));
          expect(new Set(view.filesWithPositions(source))).toEqual(new Set(loaded.filesWithPositions(source)));
        }
      }),
      { numRuns: 50 },
    );
  });

  it("finds the sinks of a file, the files of a source, the marks of a sink", () => {
    const view = new Checkpoint();
    const at = (prefix: number) => ({ prefix, ranges: [] });
    view.applied([
      { table: "position", sink: "out", source: "app", file: "f1", value: at(1) },
      { table: "position", sink: "copy", source: "app", file: "f1", value: at(2) },
      { table: "position", sink: "out", source: "app", file: "f2", value: at(3) },
      { table: "position", sink: "other", source: "db", file: "f1", value: at(4) },
      { table: "mark", sink: "out", name: "length", value: 5 },
      { table: "note", name: "ledger", value: null },
    ]);
    expect([...view.positionsOf("app", "f1")]).toEqual([
      ["out", at(1)],
      ["copy", at(2)],
    ]);
    expect(view.position("other", "db", "f1")).toEqual(at(4));
    expect(view.position("out", "db", "f1")).toBeUndefined();
    expect([...view.filesWithPositions("app")]).toEqual(["f1", "f2"]);
    expect(view.sinksOf("app")).toEqual(new Set(["out", "copy"]));
    expect(view.sinks()).toEqual(new Set(["out", "copy", "other"]));
    expect(view.sources()).toEqual(new Set(["app", "db"]));
    expect([...view.marksOf("out")]).toEqual([["length", 5]]);
    expect(view.note("ledger")).toBeNull();
    expect(view.positionsOf("nowhere", "f").size + view.filesOf("nowhere").size + view.marksOf("nowhere").size).toBe(0);
  });
});
