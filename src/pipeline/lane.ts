import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { SettledSet } from "../checkpoint/settled-set.ts";
import type { Batch } from "../record/batch.ts";
import type { Ending } from "../record/ending.ts";
import type { Origin } from "../record/origin.ts";
import type { Position, Range } from "../record/position.ts";
import type { Backlog } from "./backlog.ts";
import { RecentEndings } from "./recent-endings.ts";

/**
 * One way from one source to one sink. Where a sink is reached from the same source by several ways, each has its own
 * settled sets and positions, since each brings other records of the same ranges.
 */
export class Lane {
  readonly source: string;
  readonly sink: string;
  /**
   * Names of the transforms between them; tells the ways from one source to one sink apart. Where there is one only, a
   * reload may put a transform in between or take one out.
   */
  way: string;
  /** What its positions are stored under (`laneId`). */
  readonly id: string;
  readonly endings: { [ending in Ending]: number } = { delivered: 0, filtered: 0, dropped: 0, dead_lettered: 0 };
  readonly #sets = new Map<string, SettledSet>();
  readonly #dirty = new Set<string>();
  /** Those whose sets are in the barrier that is under way. */
  #committing: ReadonlySet<string> = new Set();
  /** Ended since the last barrier, and between that and its commit; kept where a barrier may fail or somebody waits for it. */
  #recent = new RecentEndings();
  #inBarrier = new RecentEndings();
  readonly #keepsRecent: boolean;
  readonly #checkpoint: Checkpoint;
  readonly #backlog: Backlog | undefined;
  readonly #onDirty: () => void;

  constructor(options: {
    source: string;
    sink: string;
    way: string;
    id: string;
    checkpoint: Checkpoint;
    backlog?: Backlog;
    keepsRecent: boolean;
    onDirty: () => void;
  }) {
    this.source = options.source;
    this.sink = options.sink;
    this.way = options.way;
    this.id = options.id;
    this.#checkpoint = options.checkpoint;
    this.#backlog = options.backlog;
    this.#keepsRecent = options.keepsRecent;
    this.#onDirty = options.onDirty;
  }

  /**
   * What has ended, of one file; starts as what is committed. What is committed and no more needs none: of a file that is
   * finished the checkpoint alone remembers it.
   */
  set(file: string): SettledSet {
    let set = this.#sets.get(file);
    if (set === undefined) {
      set = new SettledSet(this.#checkpoint.position(this.id, this.source, file));
      this.#sets.set(file, set);
    }
    return set;
  }

  /** The same for who only asks: a look leaves nothing behind. */
  look(file: string): SettledSet {
    return this.#sets.get(file) ?? new SettledSet(this.#checkpoint.position(this.id, this.source, file));
  }

  /** Its sink is not required. */
  get mayDrop(): boolean {
    return this.#backlog?.mayDrop ?? false;
  }

  /** False: the source is to pause this file. Never for a sink that is not required. */
  hasRoom(file: string): boolean {
    return this.mayDrop || !this.look(file).isFull;
  }

  /**
   * Ends ranges, whatever the ending: a policy may lose a line, but never stalls a file. `isDoubtful`: it was written into
   * a target whose barrier may yet fail. Positions are kept of replayable origins only; to an acknowledged one the
   * ending is told after the commit.
   */
  end(origin: Origin, ranges: readonly Range[], isDoubtful = false): void {
    const isKept = this.#keepsRecent || origin.kind === "acknowledged";
    if (isKept) this.#recent.add({ origin, ranges, isDoubtful });
    if (origin.kind === "replayable") {
      const set = this.set(origin.key);
      for (const range of ranges) set.add(range);
      this.#dirty.add(origin.key);
    }
    // Of a fleeting origin there may be nothing to commit, and then nobody is woken for it.
    if (isKept || origin.kind === "replayable") this.#onDirty();
  }

  /** Ends a range that holds no record for anybody. */
  skip(file: string, range: Range): void {
    this.set(file).add(range);
    // Until a barrier has it, the set is all that knows of it.
    this.#dirty.add(file);
    this.#onDirty();
  }

  /** Starts a file from what another file's set holds (a copy of the same content). */
  inherit(fromFile: string, toFile: string): void {
    this.#sets.set(toFile, new SettledSet(this.set(fromFile).snapshot()));
  }

  /** Unites what the target itself holds; or, for a target that was restored, replaces what the store knows. */
  recovered(file: string, position: Position, standsAlone: boolean): void {
    const set = standsAlone ? new SettledSet() : this.set(file);
    set.addPosition(position);
    this.#sets.set(file, set);
    this.#dirty.add(file);
    this.#onDirty();
  }

  /** The target was restored: nothing has ended but what it tells itself, also of files that it tells nothing of. */
  forgetAll(): void {
    const files = new Set([...this.#sets.keys(), ...this.#checkpoint.filesWithPositions(this.source)]);
    for (const file of files) {
      this.#sets.set(file, new SettledSet());
      this.#dirty.add(file);
    }
    if (files.size > 0) this.#onDirty();
  }

  /** What ended until now is what the barrier describes. */
  beginBarrier(): void {
    this.#inBarrier = this.#recent;
    this.#recent = new RecentEndings();
  }

  committed(): void {
    const endings = this.#inBarrier;
    this.#inBarrier = new RecentEndings();
    for (const file of this.#committing) if (!this.#dirty.has(file)) this.#sets.delete(file);
    this.#committing = new Set();
    for (const { origin, ranges } of endings) origin.onSettled?.(ranges);
  }

  /** The barrier failed: back to what is committed, and to the endings that left nothing in the target. */
  rewind(): void {
    const endings = [...this.#inBarrier, ...this.#recent];
    this.#inBarrier = new RecentEndings();
    this.#recent = new RecentEndings();
    this.#committing = new Set();
    for (const { origin } of endings) this.#sets.delete(origin.key);
    for (const { origin, ranges, isDoubtful } of endings) if (!isDoubtful) this.end(origin, ranges);
  }

  forget(file: string): void {
    this.#sets.delete(file);
    this.#dirty.delete(file);
  }

  /** Takes the files that changed since the last call. */
  takeDirty(): Set<string> {
    const dirty = new Set(this.#dirty);
    this.#dirty.clear();
    this.#committing = dirty;
    return dirty;
  }

  get isDirty(): boolean {
    return this.#dirty.size > 0 || !this.#recent.isEmpty;
  }

  count(ending: Ending, records: number): void {
    this.endings[ending] += records;
  }
}

/** True if every range of the batch has ended before: a replay that this sink need not see again. */
export function isCovered(lane: Lane, batch: Batch): boolean {
  if (batch.origin.kind !== "replayable") return false;
  const set = lane.look(batch.origin.key);
  // The zero-length record at a rotation's end covers no bytes: nothing can tell that it was seen before.
  let covers = false;
  for (const range of batch.ranges) {
    if (range.start === range.end) continue;
    if (!set.covers(range)) return false;
    covers = true;
  }
  return covers;
}

/** Leaves out the records that the set covers: a replayed batch need not be cut where the first run's was. */
export function withoutCovered(batch: Batch, lane: Lane): Batch {
  if (batch.origin.kind !== "replayable") return batch;
  const set = lane.look(batch.origin.key);
  if (batch.ranges.every((range) => set.isAfter(range.start))) return batch;
  return batch.filter((record) => record.range.start === record.range.end || !set.covers(record.range));
}
