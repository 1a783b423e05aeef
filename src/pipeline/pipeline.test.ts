import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { ChannelRegistry } from "../channel/index.ts";
import { Checkpoint } from "../checkpoint/checkpoint.ts";
import { GroupCommit } from "../checkpoint/group-commit.ts";
import { MemoryCheckpointStore } from "../checkpoint/memory-store.ts";
import type { Plan } from "../config/plan.ts";
import { systemClock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { MemoryBudget } from "../runtime/memory-budget.ts";
import { systemRandom } from "../runtime/random.ts";
import type { Rejection } from "../stage/contract.ts";
import { defineTransform } from "../stage/define.ts";
import { silentLogger } from "../telemetry/log.ts";
import { memoryPlan, planned } from "../testing/memory-plan.ts";
import { type MemoryTarget, memorySink, memorySource } from "../testing/memory-stages.ts";
import { openPipeline } from "./build.ts";
import type { PipelineEnvironment } from "./environment.ts";
import { forgetSink } from "./known-sinks.ts";
import type { Pipeline } from "./pipeline.ts";

const target = (): MemoryTarget => ({ texts: [], mark: 0 });
const numbered = (file: string, count: number) => Array.from({ length: count }, (_, index) => `${file} ${index}`);

interface World {
  readonly store: MemoryCheckpointStore;
  readonly letters: Rejection[];
  readonly failures: string[];
}

const newWorld = (): World => ({ store: new MemoryCheckpointStore(), letters: [], failures: [] });

async function open(
  plan: Plan,
  world: World,
  isDead = () => false,
): Promise<{ pipeline: Pipeline; channels: ChannelRegistry }> {
  const checkpoint = await Checkpoint.load(world.store);
  const channels = new ChannelRegistry();
  const environment: PipelineEnvironment = {
    plan,
    clock: systemClock,
    random: systemRandom,
    fileSystem: {} as FileSystem,
    log: silentLogger,
    events: () => ({ emit() {} }),
    host: "test",
    channels,
    checkpoint,
    groupCommit: new GroupCommit(storeUntil(world.store, isDead), {
      clock: systemClock,
      onCommitted: (changes) => checkpoint.applied(changes),
    }),
    deadLetters: {
      async put(_component, rejections) {
        world.letters.push(...rejections);
        return true;
      },
    },
    budget: new MemoryBudget(1 << 20, 1 << 16),
    onLastCommitFailed: async () => {},
    onFailure: (error, component) => world.failures.push(`${component}: ${error.message}`),
  };
  return { pipeline: await openPipeline(environment), channels };
}

async function runOnce(plan: Plan, world: World): Promise<ChannelRegistry> {
  const { pipeline, channels } = await open(plan, world);
  await pipeline.run({ signal: new AbortController().signal, once: true });
  await pipeline.close();
  return channels;
}

/** A store that a killed process can no longer reach. */
function storeUntil(store: MemoryCheckpointStore, isDead: () => boolean): Pick<MemoryCheckpointStore, "commit"> {
  return { commit: (changes) => (isDead() ? Promise.reject(new Error("killed")) : store.commit(changes)) };
}

/** Runs until `until` holds, then drops everything as a kill would. */
async function runAndKill(plan: Plan, world: World, until: () => boolean): Promise<void> {
  let isDead = false;
  const { pipeline } = await open(plan, world, () => isDead);
  const running = pipeline.run({ signal: new AbortController().signal, once: true });
  while (!until()) await new Promise((resolve) => setTimeout(resolve, 1));
  isDead = true;
  pipeline.committer.stop();
  pipeline.abandon();
  await running.catch(() => {});
}

const keepEven = defineTransform({
  type: "keep_even",
  summary: "test",
  options: z.unknown(),
  open: async () => ({
    apply: (records) => ({
      kept: records.filter((record) => Number(String(record.event["message"]).split(" ")[1]) % 2 === 0),
    }),
  }),
});

const refuseThrees = defineTransform({
  type: "refuse_threes",
  summary: "test",
  options: z.unknown(),
  open: async () => ({
    apply(records) {
      const isBad = (message: unknown) => Number(String(message).split(" ")[1]) % 3 === 0;
      return {
        kept: records.filter((record) => !isBad(record.event["message"])),
        rejected: records
          .filter((record) => isBad(record.event["message"]))
          .map((record) => ({ record, reason: "a three" })),
      };
    },
  }),
});

describe("pipeline", () => {
  it("delivers every record to every sink, in order per file, and commits the end of each file", async () => {
    const world = newWorld();
    const [a, b] = [target(), target()];
    const files = new Map([
      ["x", numbered("x", 7)],
      ["y", numbered("y", 5)],
    ]);
    const plan = memoryPlan({
      sources: [planned("in", memorySource(files))],
      sinks: [planned("a", memorySink(a, { marks: true }), ["in"]), planned("b", memorySink(b), ["in"])],
    });
    const channels = await runOnce(plan, world);
    for (const { texts } of [a, b]) {
      expect(texts.filter((text) => text.startsWith("x"))).toEqual(files.get("x"));
      expect(texts.filter((text) => text.startsWith("y"))).toEqual(files.get("y"));
    }
    const { positions } = await world.store.load();
    expect(positions).toHaveLength(4);
    for (const { file, value } of positions) {
      expect(value).toEqual({ prefix: files.get(file)!.join("\n").length + 1, ranges: [] });
    }
    for (const channel of channels.list()) {
      const { sent, received, messages } = channel.counters();
      expect({ sent, messages }).toEqual({ sent: received, messages: 0 });
    }
    expect(world.failures).toEqual([]);
  });

  it("reads nothing again after a clean end", async () => {
    const world = newWorld();
    const out = target();
    const files = new Map([["x", numbered("x", 4)]]);
    const plan = () =>
      memoryPlan({ sources: [planned("in", memorySource(files))], sinks: [planned("out", memorySink(out), ["in"])] });
    await runOnce(plan(), world);
    await runOnce(plan(), world);
    expect(out.texts).toEqual(files.get("x"));
  });

  it("settles what a transform leaves out, so that the position passes it", async () => {
    const world = newWorld();
    const out = target();
    const files = new Map([["x", numbered("x", 9)]]);
    const plan = memoryPlan({
      sources: [planned("in", memorySource(files, 1))],
      transforms: [planned("even", keepEven, ["in"])],
      sinks: [planned("out", memorySink(out, { marks: true }), ["even"])],
    });
    await runOnce(plan, world);
    expect(out.texts).toEqual(["x 0", "x 2", "x 4", "x 6", "x 8"]);
    expect((await world.store.load()).positions[0]!.value).toEqual({ prefix: 36, ranges: [] });
  });

  it("moves refused records to the dead letters and delivers the others", async () => {
    const world = newWorld();
    const out = target();
    const plan = memoryPlan({
      sources: [planned("in", memorySource(new Map([["x", numbered("x", 7)]]), 3))],
      transforms: [planned("threes", refuseThrees, ["in"])],
      sinks: [planned("out", memorySink(out), ["threes"])],
    });
    await runOnce(plan, world);
    expect(out.texts).toEqual(["x 1", "x 2", "x 4", "x 5"]);
    expect(world.letters.map(({ record }) => record.event["message"])).toEqual(["x 0", "x 3", "x 6"]);
  });

  it("bisects a refused batch, left half first, until the bad record stands alone", async () => {
    const world = newWorld();
    const out = target();
    out.answer = (_batch, texts) => (texts.includes("x 5") ? { kind: "rejected", reason: "no fives" } : undefined);
    const plan = memoryPlan({
      sources: [planned("in", memorySource(new Map([["x", numbered("x", 8)]]), 8))],
      sinks: [planned("out", memorySink(out), ["in"])],
    });
    await runOnce(plan, world);
    expect(out.texts).toEqual(numbered("x", 8).filter((text) => text !== "x 5"));
    expect(world.letters.map(({ reason }) => reason)).toEqual(["no fives"]);
    expect((await world.store.load()).positions[0]!.value).toEqual({ prefix: 32, ranges: [] });
  });

  it("tries again what a sink cannot take now, and keeps the order of each file with several requests at once", async () => {
    const world = newWorld();
    const out = target();
    let calls = 0;
    out.answer = async () => {
      calls += 1;
      await new Promise((resolve) => setTimeout(resolve, (calls * 7) % 5));
      return calls % 3 === 0 ? { kind: "retry", reason: "busy" } : undefined;
    };
    const files = new Map(["x", "y", "z"].map((key) => [key, numbered(key, 10)]));
    const plan = memoryPlan({
      sources: [planned("in", memorySource(files))],
      sinks: [planned("out", memorySink(out, { concurrency: 3 }), ["in"])],
    });
    await runOnce(plan, world);
    for (const [key, texts] of files) expect(out.texts.filter((text) => text.startsWith(key))).toEqual(texts);
  });

  it("writes again, in order and before anything new, what a failed barrier left in doubt", async () => {
    const world = newWorld();
    const out = target();
    let barriers = 0;
    out.onPrepare = async () => {
      barriers += 1;
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (barriers % 2 === 1 && barriers < 12) throw new Error("EIO");
    };
    out.answer = async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return undefined;
    };
    const files = new Map([["x", numbered("x", 40)]]);
    const plan = memoryPlan({
      sources: [planned("in", memorySource(files, 1))],
      transforms: [planned("even", keepEven, ["in"])],
      sinks: [planned("out", memorySink(out, { marks: true }), ["even"])],
    });
    await runOnce(plan, world);
    expect(barriers).toBeGreaterThan(2);
    expect(out.texts).toEqual(files.get("x")!.filter((_, index) => index % 2 === 0));
    expect((await world.store.load()).positions[0]!.value.prefix).toBe(files.get("x")!.join("\n").length + 1);
  });

  it("delivers each record exactly once to a sink with marks, killed anywhere, whatever its neighbour sink does", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 4 }),
        async (kills, perBatch) => {
          const world = newWorld();
          const [exact, other] = [target(), target()];
          const files = new Map([
            ["x", numbered("x", 12)],
            ["y", numbered("y", 6)],
          ]);
          const plan = () =>
            memoryPlan({
              sources: [planned("in", memorySource(files, perBatch))],
              sinks: [
                planned("exact", memorySink(exact, { marks: true }), ["in"]),
                planned("other", memorySink(other), ["in"]),
              ],
            });
          for (const kill of kills) await runAndKill(plan(), world, () => exact.texts.length >= Math.min(kill, 18));
          await runOnce(plan(), world);
          expect(world.failures).toEqual([]);
          for (const [key, texts] of files) {
            expect(exact.texts.filter((text) => text.startsWith(key))).toEqual(texts);
            expect(new Set(other.texts.filter((text) => text.startsWith(key)))).toEqual(new Set(texts));
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it("starts a new sink where the others are, and from the beginning with backfill", async () => {
    const world = newWorld();
    const files = new Map([["x", numbered("x", 3)]]);
    const [first, late, full] = [target(), target(), target()];
    const source = () => planned("in", memorySource(files));
    await runOnce(memoryPlan({ sources: [source()], sinks: [planned("first", memorySink(first), ["in"])] }), world);
    files.set("x", numbered("x", 5));
    const sinks = [
      planned("first", memorySink(first), ["in"]),
      planned("late", memorySink(late), ["in"]),
      { ...planned("full", memorySink(full), ["in"]), backfill: true },
    ];
    await runOnce(memoryPlan({ sources: [source()], sinks }), world);
    expect(first.texts).toEqual(numbered("x", 5));
    expect(late.texts).toEqual(["x 3", "x 4"]);
    expect(full.texts).toEqual(numbered("x", 5));
  });

  it("takes over the positions of a sink's previous name", async () => {
    const world = newWorld();
    const files = new Map([["x", numbered("x", 3)]]);
    const out = target();
    const source = () => planned("in", memorySource(files));
    await runOnce(memoryPlan({ sources: [source()], sinks: [planned("old", memorySink(out), ["in"])] }), world);
    const renamed = { ...planned("new", memorySink(out), ["in"]), previousNames: ["old"] };
    await runOnce(memoryPlan({ sources: [source()], sinks: [renamed] }), world);
    expect(out.texts).toEqual(numbered("x", 3));
  });

  it("refuses to guess whether a sink was renamed, until previous_names or forget decides", async () => {
    const world = newWorld();
    const files = new Map([["x", numbered("x", 3)]]);
    const out = target();
    const source = () => planned("in", memorySource(files));
    const sinkNamed = (name: string) => ({
      ...planned(name, { ...memorySink(out), target: () => "/data/out" }, ["in"]),
    });
    await runOnce(memoryPlan({ sources: [source()], sinks: [sinkNamed("old")] }), world);
    const other = memoryPlan({ sources: [source()], sinks: [sinkNamed("other")] });
    await expect(runOnce(other, world)).rejects.toThrow(/previous_names = \["old"\].*checkpoints forget old/);
    const changes = forgetSink(await Checkpoint.load(world.store), "old");
    await world.store.commit(changes);
    expect(forgetSink(await Checkpoint.load(world.store), "old")).toEqual([]);
    await runOnce(other, world);
    expect(out.texts).toEqual([...numbered("x", 3), ...numbered("x", 3)]);
  });
});
