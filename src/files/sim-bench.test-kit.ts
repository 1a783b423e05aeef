import { channel } from "../channel/index.ts";
import type { Batch } from "../record/batch.ts";
import { MemoryBudget } from "../runtime/memory-budget.ts";
import type { SourceContext } from "../stage/contract.ts";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { memoryStageChannels } from "../testing/memory-stage-channels.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { SimDisk } from "../testing/sim-disk.ts";
import { SimFileSystem, type SimFileSystemOptions } from "../testing/sim-file-system.ts";
import { SimPrograms } from "../testing/sim-programs.ts";
import { MemoryPositions, type SeenEvent } from "./tail-bench.test-kit.ts";
import { TailerManager } from "./tailer-manager.ts";
import type { TailerManagerOptions } from "./tailer-manager-options.ts";

export interface SimRun {
  readonly manager: TailerManager;
  readonly files: SimFileSystem;
  readonly lines: string[];
  /** Lets what comes after the channel go on, where it was started held. */
  goOn(): void;
  /** SIGTERM: what was read is settled and committed. */
  stop(): Promise<void>;
  /** SIGKILL: what was not committed is forgotten. */
  kill(): Promise<void>;
}

/**
 * A TailerManager on a simulated disk in simulated time: inode numbers are handed out again at once, and nothing depends
 * on how fast the machine is. The logs are in `/logs`.
 */
export class SimBench {
  readonly clock = new ManualClock({ startMs: Date.UTC(2026, 0, 1) });
  readonly disk = new SimDisk({ clock: this.clock, birthTimes: false });
  readonly programs = new SimPrograms(this.disk);
  readonly positions = new MemoryPositions();
  readonly events: SeenEvent[] = [];
  /** Each process has keys of its own. */
  #starts = 0;

  constructor() {
    this.programs.mkdirs("/logs");
  }

  /** Time passes, and whatever is due happens. */
  async pass(ms: number): Promise<void> {
    await this.clock.advance(ms);
  }

  async start(
    options: Partial<TailerManagerOptions> = {},
    run: { settles?: boolean; files?: SimFileSystemOptions; budgetBytes?: number; isHeld?: boolean } = {},
  ): Promise<SimRun> {
    const clock = this.clock.process();
    const files = new SimFileSystem(this.disk, { clock, deadCalls: "hang", ...run.files });
    const { positions } = this;
    const budget = new MemoryBudget(run.budgetBytes ?? 1 << 20, 4096);
    const context: SourceContext = {
      name: "app",
      log: silentLogger,
      events: { emit: (name, message, ...facts) => void this.events.push({ name, message, facts: facts[0] }) },
      clock,
      random: new SeededRandom(7 + this.#starts++),
      fileSystem: files,
      host: "testhost",
      stateDir: "/state",
      channel: () => channel<Batch>({ capacity: 1, recordsOf: (batch) => batch.count }),
      budget,
      positions,
      channels: memoryStageChannels(),
      deadLetter: () => Promise.resolve(false),
    };
    const manager = new TailerManager(
      {
        include: ["/logs/*.log"],
        exclude: [],
        readFrom: "beginning",
        maxLineBytes: 4096,
        lineDelimiter: Buffer.from("\n"),
        encoding: "utf-8",
        maxBatchBytes: 512,
        scanIntervalMs: 100,
        idleScanIntervalMs: 1000,
        partialLineTimeoutMs: 0,
        rotateWaitMs: 500,
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
    const lines: string[] = [];
    const abort = new AbortController();
    let settles = run.settles !== false;
    let goOn: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    if (run.isHeld !== true) goOn();
    const reading = (async () => {
      for await (const batch of manager.output) {
        const pieces = batch.lines!;
        for (let index = 0; index < batch.count; index += 1) lines.push(pieces.textOf(index));
        batch.memory.release();
        await held;
        if (settles) {
          positions.settle(batch);
          positions.commit();
        }
      }
    })();
    const ended = Promise.all([manager.run({ signal: abort.signal, once: false }), reading]);
    await this.clock.settle();
    return {
      manager,
      files,
      lines,
      goOn: () => goOn(),
      stop: async () => {
        abort.abort();
        await this.clock.run(ended, { what: "the graceful end" });
        positions.commit();
      },
      kill: async () => {
        settles = false;
        clock.kill();
        files.processKill();
        positions.crash();
      },
    };
  }

  /** Starts, gives it two seconds, and stops gracefully; what it read. */
  async read(options: Partial<TailerManagerOptions> = {}): Promise<string[]> {
    const run = await this.start(options);
    await this.pass(2000);
    await run.stop();
    return run.lines;
  }

  named(name: string): SeenEvent[] {
    return this.events.filter((event) => event.name === name);
  }
}
