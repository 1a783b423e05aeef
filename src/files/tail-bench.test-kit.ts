import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { channel } from "../channel/index.ts";
import type { FileEntry } from "../checkpoint/checkpoint-store.ts";
import { SettledSet } from "../checkpoint/settled-set.ts";
import type { Batch } from "../record/batch.ts";
import { systemClock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { MemoryBudget } from "../runtime/memory-budget.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { systemRandom } from "../runtime/random.ts";
import type { DescribeFile, SourceContext, SourcePositions } from "../stage/contract.ts";
import { silentLogger } from "../telemetry/log.ts";
import { memoryStageChannels } from "../testing/memory-stage-channels.ts";
import { TailerManager } from "./tailer-manager.ts";
import type { TailerManagerOptions } from "./tailer-manager-options.ts";

/** Positions in memory. What is settled is committed when `commit` is called; it survives restarts of the manager. */
export class MemoryPositions implements SourcePositions {
  readonly sets = new Map<string, SettledSet>();
  readonly committed = new Map<string, number>();
  readonly stored = new Map<string, FileEntry>();
  readonly lazy = new Map<string, FileEntry>();
  saves = 0;
  hasStarted = false;
  describe: DescribeFile = () => undefined;

  startOf(key: string): number {
    return this.committedOf(key);
  }

  boundariesOf(): readonly number[] {
    return [];
  }

  committedOf(key: string): number {
    return this.committed.get(key) ?? 0;
  }

  furthestOf(key: string): number {
    return this.committedOf(key);
  }

  get isNew(): boolean {
    return !this.hasStarted && this.stored.size === 0;
  }

  started(): void {
    this.hasStarted = true;
  }

  describeBy(describe: DescribeFile): void {
    this.describe = describe;
  }

  isCommitted(key: string, { end }: { readonly end: number }): boolean {
    return end <= this.committedOf(key);
  }

  hasRoom(): boolean {
    return true;
  }

  async roomFor(): Promise<void> {}

  async inherit(): Promise<void> {}

  files(): ReadonlyMap<string, FileEntry> {
    return this.stored;
  }

  async save(entries: ReadonlyMap<string, FileEntry | undefined>): Promise<void> {
    this.saves += 1;
    for (const [key, entry] of entries) {
      this.lazy.delete(key);
      if (entry === undefined) this.stored.delete(key);
      else this.stored.set(key, entry);
    }
  }

  saveLazily(entries: ReadonlyMap<string, FileEntry>): void {
    for (const [key, entry] of entries) this.lazy.set(key, entry);
  }

  settle(batch: Batch): void {
    let set = this.sets.get(batch.origin.key);
    if (set === undefined) {
      set = new SettledSet({ prefix: this.committedOf(batch.origin.key), ranges: [] });
      this.sets.set(batch.origin.key, set);
    }
    for (const range of batch.ranges) set.add(range);
  }

  commit(): void {
    for (const [key, entry] of this.lazy) this.stored.set(key, entry);
    this.lazy.clear();
    for (const [key, set] of this.sets) {
      if (this.committed.get(key) === set.prefix) continue;
      this.committed.set(key, set.prefix);
      const known = this.describe(key, set.prefix);
      if (known === undefined) continue;
      if (known.entry.guardEnd < Math.min(set.prefix, known.readEnd)) throw new Error(`no guard of ${key}`);
      this.stored.set(key, known.entry);
    }
  }

  /** What is in memory only is forgotten: a kill. */
  crash(): void {
    this.sets.clear();
    this.lazy.clear();
  }
}

export interface Line {
  readonly text: string;
  readonly file: string | undefined;
  readonly offset: number;
  readonly kind: string;
  readonly key: string;
  readonly id: string;
}

export interface SeenEvent {
  readonly name: string;
  readonly message: string;
  readonly facts: { readonly [fact: string]: unknown } | undefined;
}

/** A running manager over a real folder. */
export interface Run {
  readonly manager: TailerManager;
  readonly lines: Line[];
  readonly ended: Promise<void>;
  /** SIGTERM; everything read is settled and committed. */
  stop(): Promise<void>;
  /** SIGKILL: what was not committed is forgotten. */
  kill(): Promise<void>;
}

export class TailBench {
  readonly folder = mkdtempSync(join(tmpdir(), "tailrace-files-"));
  readonly positions = new MemoryPositions();
  readonly events: SeenEvent[] = [];
  readonly #runs: Run[] = [];

  path(name: string): string {
    return join(this.folder, name);
  }

  start(
    options: Partial<TailerManagerOptions> = {},
    run: { once?: boolean; fileSystem?: FileSystem; settles?: boolean; budgetBytes?: number; capacity?: number } = {},
  ): Run {
    const { positions } = this;
    const settings = { isOn: run.settles !== false };
    const context: SourceContext = {
      name: "app",
      log: silentLogger,
      events: { emit: (name, message, facts) => this.events.push({ name, message, facts }) },
      clock: systemClock,
      random: systemRandom,
      fileSystem: run.fileSystem ?? nodeFileSystem,
      host: "testhost",
      stateDir: this.folder,
      channel: () => channel<Batch>({ capacity: run.capacity ?? 2, recordsOf: (batch) => batch.count }),
      budget: new MemoryBudget(run.budgetBytes ?? 8 * 1024 * 1024, 262144),
      positions,
      channels: memoryStageChannels(),
      deadLetter: () => Promise.resolve(false),
    };
    const manager = new TailerManager(
      {
        include: [`${this.folder}/*.log`],
        exclude: [],
        readFrom: "beginning",
        maxLineBytes: 1024 * 1024,
        lineDelimiter: Buffer.from("\n"),
        encoding: "utf-8",
        maxBatchBytes: 262144,
        scanIntervalMs: 20,
        idleScanIntervalMs: 100,
        partialLineTimeoutMs: 0,
        rotateWaitMs: 60,
        archives: true,
        maxOpenFiles: 100,
        maxFiles: 100_000,
        tombstoneDays: 14,
        ignoreOlderMs: 0,
        removeAfterMs: 0,
        ...options,
      },
      context,
    );
    const lines: Line[] = [];
    const abort = new AbortController();
    const reading = (async () => {
      for await (const batch of manager.output) {
        const pieces = batch.lines!;
        for (let index = 0; index < batch.count; index += 1) {
          lines.push({
            text: pieces.textOf(index),
            file: batch.origin.file,
            offset: pieces.startOf(index),
            kind: pieces.kind,
            key: batch.origin.key,
            id: `${batch.origin.recordIdPrefix}:${pieces.startOf(index)}`,
          });
        }
        batch.memory.release();
        if (settings.isOn) {
          positions.settle(batch);
          positions.commit();
        }
      }
    })();
    const ended = Promise.all([manager.run({ signal: abort.signal, once: run.once ?? false }), reading]).then(
      () => undefined,
    );
    const started: Run = {
      manager,
      lines,
      ended,
      async stop() {
        abort.abort();
        await ended;
        positions.commit();
      },
      async kill() {
        settings.isOn = false;
        abort.abort();
        await ended;
        positions.crash();
      },
    };
    this.#runs.push(started);
    return started;
  }

  /** Reads what is there, once, to the end. */
  async once(options: Partial<TailerManagerOptions> = {}): Promise<Line[]> {
    const run = this.start(options, { once: true });
    await run.ended;
    this.positions.commit();
    return run.lines;
  }

  eventsNamed(name: string): SeenEvent[] {
    return this.events.filter((event) => event.name === name);
  }

  async close(): Promise<void> {
    for (const run of this.#runs) await run.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export const texts = (lines: readonly Line[]): string[] => lines.map((line) => line.text);

/** Waits until `check` holds; fails with what is there otherwise. */
export async function until(check: () => boolean, what: () => unknown, timeoutMs = 60_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!check()) {
    if (Date.now() > deadline) throw new Error(`waited in vain; there is ${JSON.stringify(what())}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
