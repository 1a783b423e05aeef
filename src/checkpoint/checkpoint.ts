import type { Position } from "../record/position.ts";
import type { Change, CheckpointStore, FileEntry, Json, StoredState } from "./checkpoint-store.ts";
import { changesOf } from "./store-rows.ts";

/**
 * The view of a CheckpointStore in memory (design "CheckpointStore"): it holds only what is committed, may be thrown
 * away and loaded again at any time, and changes by `applied` alone, which is called once a commit has resolved.
 *
 * Values that it returns (positions, entries) never change. Maps may or may not follow later commits: ask again.
 */
export class Checkpoint {
  /** source -> file -> sink -> position */
  readonly #positions = new Map<string, Map<string, Map<string, Position>>>();
  /** source -> file -> entry */
  readonly #files = new Map<string, Map<string, FileEntry>>();
  /** sink -> name -> value */
  readonly #marks = new Map<string, Map<string, Json>>();
  readonly #notes = new Map<string, Json>();

  constructor(state?: StoredState) {
    if (state !== undefined) this.applied(changesOf(state));
  }

  static async load(store: Pick<CheckpointStore, "load">): Promise<Checkpoint> {
    return new Checkpoint(await store.load());
  }

  /** Takes over what a commit has just made durable. Calling it for anything else breaks the design's invariants. */
  applied(changes: readonly Change[]): void {
    for (const change of changes) {
      switch (change.table) {
        case "position":
          setIn(mapIn(mapIn(this.#positions, change.source), change.file), change.sink, change.value);
          // Empty maps go, so that a loaded view and one that lived through the changes say the same.
          if (change.value === undefined) prune(this.#positions, change.source, change.file);
          break;
        case "file":
          setIn(mapIn(this.#files, change.source), change.file, change.value);
          if (change.value === undefined) prune(this.#files, change.source);
          break;
        case "mark":
          setIn(mapIn(this.#marks, change.sink), change.name, change.value);
          if (change.value === undefined) prune(this.#marks, change.sink);
          break;
        case "note":
          setIn(this.#notes, change.name, change.value);
          break;
      }
    }
  }

  position(sink: string, source: string, file: string): Position | undefined {
    return this.#positions.get(source)?.get(file)?.get(sink);
  }

  /** What each sink has of a file, by sink. */
  positionsOf(source: string, file: string): ReadonlyMap<string, Position> {
    return this.#positions.get(source)?.get(file) ?? EMPTY;
  }

  /** Keys of a source's files that some sink has a position of. */
  *filesWithPositions(source: string): IterableIterator<string> {
    yield* this.#positions.get(source)?.keys() ?? [];
  }

  fileEntry(source: string, file: string): FileEntry | undefined {
    return this.#files.get(source)?.get(file);
  }

  /** Every entry of a source, by file key. */
  filesOf(source: string): ReadonlyMap<string, FileEntry> {
    return this.#files.get(source) ?? EMPTY;
  }

  /** What a sink keeps beside its positions, by name. */
  marksOf(sink: string): ReadonlyMap<string, Json> {
    return this.#marks.get(sink) ?? EMPTY;
  }

  note(name: string): Json | undefined {
    return this.#notes.get(name);
  }

  get notes(): ReadonlyMap<string, Json> {
    return this.#notes;
  }

  /** Every source that has a file entry or a position. */
  sources(): Set<string> {
    return new Set([...this.#files.keys(), ...this.#positions.keys()]);
  }

  /** Every sink that has a position or a mark; also one that the configuration no longer knows. */
  sinks(): Set<string> {
    const sinks = new Set(this.#marks.keys());
    for (const source of this.#positions.keys()) for (const sink of this.sinksOf(source)) sinks.add(sink);
    return sinks;
  }

  /** Every sink that has a position of some file of the source. */
  sinksOf(source: string): Set<string> {
    const sinks = new Set<string>();
    for (const bySink of this.#positions.get(source)?.values() ?? []) for (const sink of bySink.keys()) sinks.add(sink);
    return sinks;
  }

  /** All of it as rows, for export. */
  state(): StoredState {
    const positions: StoredState["positions"][number][] = [];
    for (const [source, byFile] of this.#positions) {
      for (const [file, bySink] of byFile) {
        for (const [sink, value] of bySink) positions.push({ sink, source, file, value });
      }
    }
    const files: StoredState["files"][number][] = [];
    for (const [source, byFile] of this.#files) {
      for (const [file, value] of byFile) files.push({ source, file, value });
    }
    const marks: StoredState["marks"][number][] = [];
    for (const [sink, byName] of this.#marks) {
      for (const [name, value] of byName) marks.push({ sink, name, value });
    }
    return { positions, files, marks, notes: [...this.#notes].map(([name, value]) => ({ name, value })) };
  }
}

const EMPTY: ReadonlyMap<string, never> = new Map<string, never>();

function mapIn<Value>(outer: Map<string, Map<string, Value>>, key: string): Map<string, Value> {
  let inner = outer.get(key);
  if (inner === undefined) {
    inner = new Map();
    outer.set(key, inner);
  }
  return inner;
}

function setIn<Value>(map: Map<string, Value>, key: string, value: Value | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

type Tree = Map<string, unknown>;

/** Removes the maps along `path` that are empty. */
function prune(tree: Tree, ...path: readonly string[]): void {
  const [key, ...rest] = path;
  if (key === undefined) return;
  const inner = tree.get(key) as Tree | undefined;
  if (inner === undefined) return;
  prune(inner, ...rest);
  if (inner.size === 0) tree.delete(key);
}
