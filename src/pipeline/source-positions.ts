import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { Change, FileEntry } from "../checkpoint/checkpoint-store.ts";
import type { GroupCommit } from "../checkpoint/group-commit.ts";
import { unitePositions } from "../checkpoint/settled-set.ts";
import { CheckpointError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Ending } from "../record/ending.ts";
import { type Position, type Range, START } from "../record/position.ts";
import { untilWoken } from "../runtime/until-woken.ts";
import type { DescribeFile, SourcePositions } from "../stage/contract.ts";
import type { Lane } from "./lane.ts";
import { endBatch } from "./route.ts";

/** So many files that were handed on are looked through without a need to. */
const MIN_FORWARDED = 1000;

/** A source's view of the checkpoint and of the lanes that it feeds. */
export class PipelineSourcePositions implements SourcePositions {
  readonly #source: string;
  #lanes: readonly Lane[] = [];
  /** Under which its positions are stored, one for each way to a sink. */
  #laneIds: readonly string[] = [];
  readonly #checkpoint: Checkpoint;
  readonly #groupCommit: GroupCommit;
  #lazy = new Map<string, FileEntry>();
  #hasStarted = false;
  #describeFile: DescribeFile | undefined;
  readonly #endContribution: () => void;
  #roomWaiters: (() => void)[] = [];
  /** File key -> end of what the source has handed on in this run. */
  readonly forwarded = new Map<string, number>();
  #forgetAt = MIN_FORWARDED;

  constructor(source: string, checkpoint: Checkpoint, groupCommit: GroupCommit) {
    this.#source = source;
    this.#checkpoint = checkpoint;
    this.#groupCommit = groupCommit;
    this.#endContribution = groupCommit.contribute({
      take: () => this.#takeLazy(),
      accompany: (submitted) => this.#describe(submitted),
      failed: (changes) => this.#putBack(changes),
    });
  }

  /** The source is gone: what it noted lazily is made durable, and nobody is asked for more. */
  async close(): Promise<void> {
    // Where the store fails it goes with the first commit that does not.
    await this.#groupCommit.submit([]).then(this.#endContribution, () => {});
  }

  /** Which lanes the source feeds, from now on. */
  feeds(lanes: readonly Lane[]): void {
    this.#lanes = lanes;
    this.#laneIds = lanes.map((lane) => lane.id);
    this.onSettled();
  }

  /** Bytes that were handed on and that no commit covers: the next start reads them again. */
  get uncommittedBytes(): number {
    let bytes = 0;
    for (const [file, end] of this.forwarded) bytes += Math.max(0, end - this.committedOf(file));
    return bytes;
  }

  startOf(fileKey: string): number {
    return this.committedOf(fileKey);
  }

  committedOf(fileKey: string): number {
    return Math.min(
      ...this.#laneIds.map((sink) => this.#checkpoint.position(sink, this.#source, fileKey)?.prefix ?? 0),
    );
  }

  furthestOf(fileKey: string): number {
    return Math.max(0, ...[...this.#checkpoint.positionsOf(this.#source, fileKey).values()].map(endOf));
  }

  isCommitted(fileKey: string, range: Range): boolean {
    return this.#laneIds.every((sink) => {
      const position = this.#checkpoint.position(sink, this.#source, fileKey);
      return position !== undefined && covers(position, range);
    });
  }

  /** Ends a batch that never went out, on every way. */
  endEverywhere(batch: Batch, ending: Ending): void {
    endBatch(batch, this.#lanes, ending);
  }

  boundariesOf(fileKey: string): readonly number[] {
    const start = this.startOf(fileKey);
    const offsets = new Set<number>();
    for (const sink of this.#laneIds) {
      const position = this.#checkpoint.position(sink, this.#source, fileKey);
      if (position === undefined) continue;
      offsets.add(position.prefix);
      for (const range of position.ranges) offsets.add(range.start).add(range.end);
    }
    return [...offsets].filter((offset) => offset > start).sort((a, b) => a - b);
  }

  hasRoom(fileKey: string): boolean {
    return this.#lanes.every((lane) => lane.hasRoom(fileKey));
  }

  async roomFor(fileKey: string, { signal }: { signal: AbortSignal }): Promise<void> {
    while (!this.hasRoom(fileKey) && !signal.aborted) {
      await untilWoken(signal, (wake) => this.#roomWaiters.push(wake));
    }
  }

  /** Something ended: a set may have room again. */
  readonly onSettled = (): void => {
    if (this.#roomWaiters.length > 0) for (const wake of this.#roomWaiters.splice(0)) wake();
  };

  async inherit(fromFile: string, toFile: string): Promise<void> {
    for (const lane of this.#lanes) lane.inherit(fromFile, toFile);
    const changes: Change[] = [];
    for (const sink of this.#laneIds) {
      const value = this.#checkpoint.position(sink, this.#source, fromFile);
      if (value !== undefined) changes.push({ table: "position", sink, source: this.#source, file: toFile, value });
    }
    if (changes.length > 0) await this.#groupCommit.submit(changes);
  }

  get isNew(): boolean {
    return this.#checkpoint.note(this.#startedNote) === undefined && this.files().size === 0;
  }

  started(): void {
    if (this.#checkpoint.note(this.#startedNote) !== undefined || this.#hasStarted) return;
    this.#hasStarted = true;
    // What fails goes with the next commit.
    this.#groupCommit.submit([]).catch(() => undefined);
  }

  get #startedNote(): string {
    return `started/${this.#source}`;
  }

  files(): ReadonlyMap<string, FileEntry> {
    return this.#checkpoint.filesOf(this.#source);
  }

  async save(
    entries: ReadonlyMap<string, FileEntry | undefined>,
    skipped: ReadonlyMap<string, Range> = new Map(),
  ): Promise<void> {
    const changes: Change[] = [];
    for (const [file, range] of skipped) {
      for (const lane of this.#lanes) lane.skip(file, range);
      for (const sink of this.#laneIds) {
        const committed = this.#checkpoint.position(sink, this.#source, file) ?? START;
        const value = unitePositions([committed, { prefix: 0, ranges: [range] }]);
        changes.push({ table: "position", sink, source: this.#source, file, value });
      }
    }
    for (const [file, value] of entries) {
      this.#lazy.delete(file);
      changes.push({ table: "file", source: this.#source, file, value });
      if (value !== undefined) continue;
      this.forwarded.delete(file);
      for (const sink of this.#checkpoint.positionsOf(this.#source, file).keys()) {
        changes.push({ table: "position", sink, source: this.#source, file, value: undefined });
      }
      for (const lane of this.#lanes) lane.forget(file);
    }
    if (changes.length > 0) await this.#groupCommit.submit(changes);
  }

  saveLazily(entries: ReadonlyMap<string, FileEntry>): void {
    for (const [file, entry] of entries) this.#lazy.set(file, entry);
  }

  describeBy(describe: DescribeFile): void {
    this.#describeFile = describe;
  }

  /**
   * What is known of each file whose positions are about to be committed, as of now: a position without the guard of the
   * same instant would, after a crash, be believed of content that was replaced meanwhile.
   * @throws CheckpointError `TR_INTERNAL` for a guard that does not cover what was read: a bug, found before it is stored
   */
  #describe(submitted: readonly Change[]): Change[] {
    if (this.#describeFile === undefined) return [];
    const furthest = new Map<string, number>();
    for (const change of submitted) {
      if (change.table !== "position" || change.source !== this.#source || change.value === undefined) continue;
      const known = furthest.get(change.file) ?? this.furthestOf(change.file);
      furthest.set(change.file, Math.max(known, endOf(change.value)));
    }
    const described: Change[] = [];
    for (const [file, end] of furthest) {
      const known = this.#describeFile(file, end);
      if (known === undefined) continue;
      const { entry, readEnd } = known;
      if (entry.guardEnd < Math.min(end, readEnd)) {
        const message = `the guard of file ${file} of ${this.#source} ends at ${entry.guardEnd}, below the position ${end}`;
        throw new CheckpointError("TR_INTERNAL", message);
      }
      described.push({ table: "file", source: this.#source, file, value: entry });
    }
    return described;
  }

  /** What is committed to its end needs no note of where that is: files come and go without end. */
  #forgetForwarded(): void {
    if (this.forwarded.size < this.#forgetAt) return;
    for (const [file, end] of this.forwarded) if (this.committedOf(file) >= end) this.forwarded.delete(file);
    this.#forgetAt = Math.max(MIN_FORWARDED, this.forwarded.size * 2);
  }

  #takeLazy(): Change[] {
    this.#forgetForwarded();
    const lazy = this.#lazy;
    const isUnnoted = this.#hasStarted && this.#checkpoint.note(this.#startedNote) === undefined;
    const notes: Change[] = isUnnoted ? [{ table: "note", name: this.#startedNote, value: true }] : [];
    if (lazy.size === 0) return notes;
    this.#lazy = new Map();
    return [
      ...notes,
      ...[...lazy].map(([file, value]) => ({ table: "file", source: this.#source, file, value }) as const),
    ];
  }

  #putBack(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.table === "file" && change.value !== undefined && !this.#lazy.has(change.file))
        this.#lazy.set(change.file, change.value);
    }
  }
}

function endOf({ prefix, ranges }: Position): number {
  return ranges.at(-1)?.end ?? prefix;
}

function covers({ prefix, ranges }: Position, { start, end }: Range): boolean {
  return end <= prefix || ranges.some((range) => range.start <= start && end <= range.end);
}
