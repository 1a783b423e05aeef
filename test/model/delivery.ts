import { z } from "zod";
import { ChannelRegistry } from "../../src/channel/registry.ts";
import { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { GroupCommit } from "../../src/checkpoint/group-commit.ts";
import { MemoryCheckpointStore } from "../../src/checkpoint/memory-store.ts";
import type { Plan, PlannedComponent } from "../../src/config/plan.ts";
import { CheckpointError, StageError, toError } from "../../src/errors.ts";
import { openPipeline } from "../../src/pipeline/build.ts";
import type { Pipeline } from "../../src/pipeline/pipeline.ts";
import { Batch, type Memory } from "../../src/record/batch.ts";
import { Lines } from "../../src/record/lines.ts";
import { fileOrigin } from "../../src/record/origin.ts";
import { MemoryBudget } from "../../src/runtime/memory-budget.ts";
import type { Source, SourceContext } from "../../src/stage/contract.ts";
import {
  defineSource,
  defineTransform,
  type SourceDefinition,
  type TransformDefinition,
} from "../../src/stage/define.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { ManualClock } from "../../src/testing/manual-clock.ts";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { SimDisk } from "../../src/testing/sim-disk.ts";
import { SimFileSystem } from "../../src/testing/sim-file-system.ts";
import { SimPrograms } from "../../src/testing/sim-programs.ts";
import { ProcessStore } from "./process-store.ts";
import { simPlan } from "./sim-plan.ts";
import {
  FileTarget,
  MarkTarget,
  POISON,
  ServerTarget,
  type SimTarget,
  TableTarget,
  type TargetProcess,
  type Temper,
} from "./sim-targets.ts";

/** Left out by the transform of the graph. */
const NOISE = "noise";

/** How sources and sinks are joined. */
export type Shape = "fan_out" | "filtered" | "two_ways";

/**
 * One schedule of the pipeline alone: lines in memory, simulated targets that fail, delay and reorder at every await,
 * kills and power cuts at random moments. At the end every line has had exactly one ending at each sink.
 * @returns what is wrong, in words
 */
export async function runDelivery(seed: number, shape: Shape): Promise<string[]> {
  const world = new DeliveryWorld(seed, shape);
  try {
    await world.run();
  } catch (error) {
    world.problems.push(`the run failed: ${error instanceof Error ? error.stack : String(error)}`);
  }
  return world.problems;
}

class DeliveryWorld {
  readonly problems: string[] = [];
  readonly #random: SeededRandom;
  readonly #clock = new ManualClock();
  readonly #disk: SimDisk;
  readonly #rows = new MemoryCheckpointStore();
  readonly #files = new Map<string, string[]>();
  readonly #targets = new Map<string, SimTarget>();
  readonly #letters = new Map<string, Set<string>>();
  readonly #shape: Shape;
  #failingCommits = 0;

  constructor(seed: number, shape: Shape) {
    this.#shape = shape;
    const random = new SeededRandom(seed);
    this.#random = random;
    this.#disk = new SimDisk({ clock: this.#clock, random: random.fork() });
    new SimPrograms(this.#disk).mkdirs("/state");
    this.#disk.syncAll();
    for (let file = 0; file < random.int(1, 3); file += 1) {
      const name = String.fromCharCode(97 + file);
      const kind = () => random.weighted({ plain: 8, [NOISE]: 2, [POISON]: 1 });
      const lines = Array.from(
        { length: random.int(1, 40) },
        (_, index) => `${name} ${index + 1} ${kind()} ${random.hex(random.int(0, 20))}`,
      );
      this.#files.set(name, lines);
    }
    const temper = (): Temper => ({
      delay: random.pick([0, 0.2, 0.7]),
      delayMs: random.pick([2, 40]),
      fail: random.pick([0, 0.1, 0.4]),
      lostAnswer: random.pick([0, 0.2]),
    });
    const target = (name: string): SimTarget =>
      random.pick([
        () => new FileTarget(random.fork(), temper(), this.#disk, `/out/${name}.log`),
        () => new MarkTarget(random.fork(), temper()),
        () => new TableTarget(random.fork(), temper(), random.int(1, 3)),
        () => new ServerTarget(random.fork(), temper(), random.int(1, 4)),
      ])();
    for (const name of shape === "fan_out" ? ["one", "two", "three"].slice(0, random.int(1, 3)) : ["one"])
      this.#targets.set(name, target(name));
    for (const name of this.#targets.keys()) this.#letters.set(name, new Set());
  }

  async run(): Promise<void> {
    const kills = this.#random.int(0, 4);
    for (let round = 0; round < kills; round += 1) {
      const process = this.#start();
      if (this.#random.chance(0.3)) this.#failingCommits = this.#random.int(1, 3);
      await this.#clock.advance(this.#random.pick([0, 5, 60, 200, 800]));
      if (process.failure !== undefined && !mayEndRun(process.failure)) throw process.failure;
      process.kill();
      if (this.#random.chance(0.3)) {
        this.#disk.powerCut();
        for (const target of this.#targets.values()) target.powerCut();
      }
    }
    this.#failingCommits = 0;
    const process = await this.#finish();
    if (process.memory.held !== 0) this.problems.push(`${process.memory.held} batches were never released`);
    this.problems.push(...process.memory.problems);
    for (const [name, target] of this.#targets) this.#judge(name, target);
  }

  /** Starts the last run, again where it could not start, and lets it come to its end. */
  async #finish() {
    for (;;) {
      const process = this.#start();
      await this.#clock.run(process.ended, { what: "the end of the last run" });
      if (process.failure === undefined) return process;
      if (!mayEndRun(process.failure)) throw process.failure;
      process.kill();
    }
  }

  #start() {
    const clock = this.#clock.process();
    const state = { isDead: false, failure: undefined as Error | undefined };
    const failsNow = () => {
      if (this.#failingCommits === 0) return false;
      this.#failingCommits -= 1;
      return true;
    };
    const store = new ProcessStore(this.#rows, clock, this.#random.fork(), { delayChance: 0.3, failsNow });
    const memory = new TrackedMemory();
    const files = new SimFileSystem(this.#disk, {
      clock,
      delayChance: this.#random.pick([0, 0.1, 0.5]),
      shortWrites: this.#random.pick([0, 0.3]),
      deadCalls: "hang",
    });
    const fail = (error: Error) => {
      state.failure ??= error;
    };
    const ended = this.#open({ clock, files, isDead: () => state.isDead }, store, memory, fail).catch(
      (error: unknown) => fail(toError(error)),
    );
    return {
      ended,
      memory,
      get failure() {
        return state.failure;
      },
      kill: () => {
        state.isDead = true;
        clock.kill();
        files.processKill();
        store.kill();
      },
    };
  }

  async #open(
    process: TargetProcess,
    store: ProcessStore,
    memory: TrackedMemory,
    fail: (error: Error) => void,
  ): Promise<void> {
    const { clock, isDead } = process;
    const checkpoint = await Checkpoint.load(store);
    const groupCommit = new GroupCommit(store, { clock, onCommitted: (changes) => checkpoint.applied(changes) });
    const plan = this.#plan(process, memory);
    let pipeline: Pipeline | undefined;
    try {
      pipeline = await openPipeline({
        plan,
        clock,
        random: this.#random.fork(),
        fileSystem: process.files,
        log: silentLogger,
        events: () => ({ emit() {} }),
        host: "model",
        channels: new ChannelRegistry(),
        checkpoint,
        groupCommit,
        deadLetters: {
          put: async (component, rejections) => {
            if (this.#random.chance(0.3)) await clock.sleep(this.#random.next() * 50);
            if (isDead()) return new Promise<never>(() => {});
            for (const { record } of rejections) this.#letters.get(component)?.add(record.bytes.toString());
            return true;
          },
        },
        budget: new MemoryBudget(plan.channels.totalBytes, 4096),
        onLastCommitFailed: async () => {},
        onFailure: fail,
      });
      await pipeline.run({ signal: new AbortController().signal, once: true });
    } finally {
      await pipeline?.close();
    }
  }

  #plan(process: TargetProcess, memory: TrackedMemory): Plan {
    const component = <Definition>(
      name: string,
      definition: Definition,
      inputs: readonly string[],
      options: unknown = {},
    ): PlannedComponent<Definition> => ({
      name,
      definition,
      options,
      inputs,
      previousNames: [],
      backfill: false,
      retry: { initialMs: 10, maxMs: 100, maxAttempts: 0 },
    });
    const transforms = {
      fan_out: [],
      filtered: [component("keep", without(NOISE), ["memory"])],
      two_ways: [
        component(
          "odd",
          only((order) => order % 2 === 1),
          ["memory"],
        ),
        component(
          "even",
          only((order) => order % 2 === 0),
          ["memory"],
        ),
      ],
    }[this.#shape];
    const inputs = this.#shape === "fan_out" ? ["memory"] : transforms.map(({ name }) => name);
    return simPlan({
      channel: { bufferSize: this.#random.int(1, 2), bufferBytes: 4096, overflow: "block", sendTimeoutMs: 0 },
      checkpoint: { commitIntervalMs: 20, commitBytes: 300, maxUncommittedBytes: 600, maxUncommittedMs: 500 },
      sources: [component("memory", linesOf(this.#files, this.#random.fork(), memory), [])],
      transforms,
      sinks: [...this.#targets].map(([name, target]) => {
        const definition = target.definition(process);
        return component(name, definition, inputs, definition.options.parse(target.options));
      }),
    });
  }

  #judge(name: string, target: SimTarget): void {
    const arrived = target.lines();
    const counts = new Map<string, number>();
    for (const line of arrived) counts.set(line, (counts.get(line) ?? 0) + 1);
    const refuses = !(target instanceof MarkTarget || target instanceof FileTarget);
    for (const [file, lines] of this.#files) {
      const wanted = lines.filter((line) => !(this.#shape === "filtered" && line.includes(NOISE)));
      for (const line of wanted) {
        const count = counts.get(line) ?? 0;
        const say = (problem: string) =>
          this.problems.push(`${name} (${target.constructor.name}): ${problem}: ${line}`);
        if (refuses && line.includes(POISON)) {
          if (count > 0) say("arrived although it was refused");
          if (!this.#letters.get(name)!.has(line)) say("refused and not in the dead letters");
        } else if (count === 0) say("missing");
        else if (count > 1 && target.isExactlyOnce) say(`arrived ${count} times`);
      }
      // Two ways into one sink are two streams: each in its own order.
      for (const part of this.#shape === "two_ways" ? [0, 1] : [undefined]) {
        const first = [...new Set(arrived)].filter((line) => line.startsWith(`${file} `));
        const orders = first.map(orderOf).filter((order) => part === undefined || order % 2 === part);
        if (orders.some((order, index) => index > 0 && order < orders[index - 1]!))
          this.problems.push(`${name} (${target.constructor.name}): ${file} out of order: ${orders.join(" ")}`);
      }
    }
  }
}

/** Failures of the world that rightly end a run: a target that cannot be opened, a store that cannot be written then. */
function mayEndRun(error: Error): boolean {
  return error instanceof CheckpointError || (error instanceof StageError && error.code === "TR_STAGE_OPEN");
}

const orderOf = (line: string) => Number(line.split(" ")[1]);

/** Memory that is scribbled over once it is given back: who reads it afterwards delivers rubbish. */
class TrackedMemory {
  held = 0;
  readonly problems: string[] = [];

  take(bytes: Buffer): Memory {
    let references = 1;
    this.held += 1;
    return {
      byteLength: bytes.length,
      retain: () => {
        if (references === 0) this.problems.push("memory was retained after its release");
        references += 1;
      },
      release: () => {
        references -= 1;
        if (references < 0) this.problems.push("memory was released twice");
        if (references !== 0) return;
        this.held -= 1;
        bytes.fill("#");
      },
    };
  }
}

/** A replayable source: batches are cut anywhere between two lines, files take turns by seed. */
function linesOf(
  files: ReadonlyMap<string, readonly string[]>,
  random: SeededRandom,
  memory: TrackedMemory,
): SourceDefinition {
  return defineSource({
    type: "sim_lines",
    summary: "Lines in memory.",
    options: z.unknown(),
    replay: "replayable",
    async open(_options, context: SourceContext): Promise<Source> {
      const { sender, receiver } = context.channel();
      return {
        output: receiver,
        async run({ signal }) {
          using _closing = sender;
          const pending = [...files].map(([key, lines]) => ({ key, lines, next: 0, offset: 0 }));
          for (const file of pending) {
            const start = context.positions.startOf(file.key);
            for (; file.offset < start; file.next += 1) file.offset += Buffer.byteLength(file.lines[file.next]!) + 1;
          }
          for (;;) {
            const left = pending.filter((file) => file.next < file.lines.length);
            if (left.length === 0 || signal.aborted) return;
            const file = random.pick(left);
            await context.positions.roomFor(file.key, { signal });
            if (random.chance(0.2)) await context.clock.sleep(random.next() * 20);
            const lines = file.lines.slice(file.next, file.next + random.int(1, 5));
            const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
            const ends = new Uint32Array(lines.length);
            let end = 0;
            lines.forEach((line, index) => {
              end += Buffer.byteLength(line) + 1;
              ends[index] = end;
            });
            const content = new Lines({
              bytes,
              offset: file.offset,
              ends,
              count: lines.length,
              kind: "whole",
              delimiterBytes: 1,
              readAtMs: 0,
              host: "model",
            });
            file.next += lines.length;
            file.offset += end;
            await sender.send(
              Batch.ofLines(fileOrigin("memory", file.key, 0, `/${file.key}`), content, memory.take(bytes)),
              { signal },
            );
          }
        },
        async [Symbol.asyncDispose]() {},
      };
    },
  });
}

function without(word: string): TransformDefinition {
  return defineTransform({
    type: "sim_without",
    summary: "Leaves lines out.",
    options: z.unknown(),
    async open() {
      return { apply: (records) => ({ kept: records.filter((record) => !record.bytes.includes(word)) }) };
    },
  });
}

function only(keep: (order: number) => boolean): TransformDefinition {
  return defineTransform({
    type: "sim_only",
    summary: "Keeps lines by number.",
    options: z.unknown(),
    async open() {
      return { apply: (records) => ({ kept: records.filter((record) => keep(orderOf(record.bytes.toString()))) }) };
    },
  });
}
