import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { ChannelRegistry } from "../channel/index.ts";
import { Checkpoint } from "../checkpoint/checkpoint.ts";
import { GroupCommit } from "../checkpoint/group-commit.ts";
import { MemoryCheckpointStore } from "../checkpoint/memory-store.ts";
import type { Plan } from "../config/plan.ts";
import { Batch } from "../record/batch.ts";
import { fileOrigin } from "../record/origin.ts";
import { systemClock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { MemoryBudget } from "../runtime/memory-budget.ts";
import { systemRandom } from "../runtime/random.ts";
import { defineSource, defineTransform, type SourceDefinition } from "../stage/define.ts";
import { silentLogger } from "../telemetry/log.ts";
import { memoryPlan, planned } from "../testing/memory-plan.ts";
import { linesBatch, type MemoryTarget, memorySink } from "../testing/memory-stages.ts";
import { openPipeline } from "./build.ts";
import type { Pipeline } from "./pipeline.ts";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(holds: () => boolean, what: string): Promise<void> {
  for (const endMs = Date.now() + 60_000; !holds(); await pause(2))
    if (Date.now() > endMs) throw new Error(`it never came to: ${what}`);
}

/** Files that grow, and a source that follows them until it is stopped; `opened` counts how often. */
class GrowingFiles {
  readonly texts = new Map<string, string[]>();
  opened = 0;

  grow(key: string, count: number): void {
    const texts = this.texts.get(key) ?? [];
    for (let added = 0; added < count; added += 1) texts.push(`${key} ${texts.length}`);
    this.texts.set(key, texts);
  }

  readonly source: SourceDefinition = defineSource({
    type: "growing",
    summary: "Lines from memory that grow, for tests.",
    options: z.unknown(),
    replay: "replayable",
    open: async (options, context) => {
      if (options === "bad") throw new Error("no such thing");
      this.opened += 1;
      const { sender, receiver } = context.channel();
      return {
        output: receiver,
        run: async ({ signal }) => {
          using _closing = sender;
          const next = new Map<string, { index: number; offset: number }>();
          while (!signal.aborted) {
            for (const [key, texts] of this.texts) {
              let at = next.get(key);
              if (at === undefined) {
                at = { index: 0, offset: 0 };
                const start = context.positions.startOf(key);
                for (; at.offset < start; at.index += 1) at.offset += Buffer.byteLength(texts[at.index]!) + 1;
                next.set(key, at);
              }
              if (at.index === texts.length) continue;
              const some = texts.slice(at.index, at.index + 2);
              const batch = linesBatch(context.name, key, at.offset, some);
              const { byteLength } = batch;
              try {
                await sender.send(batch, { signal });
              } catch {
                return;
              }
              at.index += some.length;
              at.offset += byteLength;
            }
            await pause(0);
          }
        },
        async [Symbol.asyncDispose]() {},
      };
    },
  });
}

const upper = defineTransform({
  type: "pass",
  summary: "test",
  options: z.unknown(),
  open: async () => ({
    async apply(records) {
      await pause(1);
      return { kept: records };
    },
  }),
});

interface World {
  readonly pipeline: Pipeline;
  readonly failures: string[];
  readonly checkpoint: Checkpoint;
  readonly events: string[];
  stop(): Promise<void>;
}

async function start(plan: Plan, store = new MemoryCheckpointStore()): Promise<World> {
  const checkpoint = await Checkpoint.load(store);
  const failures: string[] = [];
  const events: string[] = [];
  const pipeline = await openPipeline({
    plan,
    clock: systemClock,
    random: systemRandom,
    fileSystem: {} as FileSystem,
    log: silentLogger,
    events: (component) => ({ emit: (name, message) => void events.push(`${component} ${name}: ${message}`) }),
    host: "test",
    channels: new ChannelRegistry(),
    checkpoint,
    groupCommit: new GroupCommit(store, { clock: systemClock, onCommitted: (changes) => checkpoint.applied(changes) }),
    deadLetters: { put: async () => true },
    budget: new MemoryBudget(1 << 20, 1 << 16),
    onLastCommitFailed: async () => {},
    onFailure: (error, component) => failures.push(`${component}: ${error.message}`),
  });
  const stopping = new AbortController();
  const running = pipeline.run({ signal: stopping.signal, once: false });
  return {
    pipeline,
    failures,
    checkpoint,
    events,
    async stop() {
      stopping.abort();
      await running;
      await pipeline.close();
    },
  };
}

const target = (): MemoryTarget => ({ texts: [], mark: 0 });
const of = (out: MemoryTarget, key: string) => out.texts.filter((text) => text.startsWith(`${key} `));

describe("Pipeline.reload", () => {
  it("delivers each record once and in order to a sink that stays, whatever is reloaded around it", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ plan: fc.nat({ max: 8 }), grow: fc.nat({ max: 9 }), waitMs: fc.nat({ max: 6 }) }), {
          minLength: 1,
          maxLength: 6,
        }),
        async (steps) => {
          const files = new GrowingFiles();
          const [stays, comes] = [target(), target()];
          const exact = memorySink(stays, { marks: true });
          const other = memorySink(comes);
          const source = (options: unknown = {}) => planned("in", files.source, [], options);
          const pass = (options: unknown = {}) => planned("pass", upper, ["in"], options);
          const out = (input: string, options: unknown = {}) => planned("out", exact, [input], options);
          const more = (input: string) => planned("more", other, [input]);
          const plans = [
            memoryPlan({ sources: [source()], sinks: [out("in")] }),
            memoryPlan({ sources: [source()], sinks: [out("in"), more("in")] }),
            memoryPlan({ sources: [source()], transforms: [pass()], sinks: [out("pass")] }),
            memoryPlan({ sources: [source()], transforms: [pass()], sinks: [out("pass"), more("in")] }),
            memoryPlan({ sources: [source()], transforms: [pass()], sinks: [out("in"), more("pass")] }),
            memoryPlan({ sources: [source()], transforms: [pass(1)], sinks: [out("pass"), more("pass")] }),
            memoryPlan({ sources: [source()], sinks: [out("in", 1)] }),
            memoryPlan({ sources: [source(1)], sinks: [out("in")] }),
            memoryPlan({ sources: [source(1)], transforms: [pass()], sinks: [out("pass", 1), more("in")] }),
          ];
          files.grow("x", 5);
          const world = await start(plans[0]!);
          for (const { plan, grow, waitMs } of steps) {
            files.grow("x", grow);
            files.grow("y", grow);
            await pause(waitMs);
            await world.pipeline.reload(plans[plan]!);
          }
          files.grow("x", 3);
          const isThere = world.pipeline.sinks.some(({ name }) => name === "more");
          await until(() => stays.texts.length >= [...files.texts.values()].flat().length, "everything delivered");
          await world.stop();
          expect(world.failures).toEqual([]);
          for (const [key, texts] of files.texts) {
            if (texts.length === 0) continue;
            expect(of(stays, key)).toEqual(texts);
            // From where it came in, without a hole.
            const got = of(comes, key);
            const first = got.length === 0 ? texts.length : texts.indexOf(got[0]!);
            expect(got).toEqual(texts.slice(first, first + got.length));
            if (isThere && got.length > 0) expect(got.at(-1)).toBe(texts.at(-1));
            const { prefix, ranges } = world.checkpoint.position("out", "in", key)!;
            expect([prefix, ranges]).toEqual([texts.join("\n").length + 1, []]);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it("never stops what is the same in both plans", async () => {
    const [one, two] = [new GrowingFiles(), new GrowingFiles()];
    const [kept, changed] = [target(), target()];
    const [keptSink, changedSink] = [memorySink(kept), memorySink(changed)];
    const plan = (options: unknown) =>
      memoryPlan({
        sources: [planned("one", one.source), planned("two", two.source)],
        sinks: [planned("kept", keptSink, ["one"]), planned("changed", changedSink, ["two"], options)],
      });
    const world = await start(plan(1));
    one.grow("x", 3);
    two.grow("x", 3);
    expect(await world.pipeline.reload(plan(1))).toEqual([]);
    const before = world.pipeline.sinks;
    expect(await world.pipeline.reload(plan(2))).toEqual(["changed has changed"]);
    expect(world.pipeline.sinks).toEqual(before);
    await until(() => kept.texts.length === 3 && changed.texts.length === 3, "both got everything");
    await world.stop();
    expect([one.opened, two.opened]).toEqual([1, 1]);
  });

  it("changes nothing when a new stage cannot be opened, or a change needs a restart", async () => {
    const files = new GrowingFiles();
    const out = target();
    const sink = memorySink(out, { marks: true });
    const source = planned("in", files.source);
    const plan = memoryPlan({ sources: [source], sinks: [planned("out", sink, ["in"])] });
    const world = await start(plan);
    const broken = { ...sink, open: async () => Promise.reject(new Error("no such host")) };
    const fails = [
      memoryPlan({ sources: [source], sinks: [planned("out", sink, ["in"]), planned("bad", broken, ["in"])] }),
      memoryPlan({ sources: [source], sinks: [planned("out", broken, ["in"])] }),
      memoryPlan({ sources: [source], sinks: [planned("out", { ...sink, type: "other" }, ["in"])] }),
    ];
    for (const [index, message] of ["no such host", "no such host", "needs a restart"].entries()) {
      files.grow("x", 3);
      await expect(world.pipeline.reload(fails[index]!)).rejects.toThrow(message);
    }
    files.grow("x", 3);
    const moved = memoryPlan({ sources: [planned("in", files.source, [], "bad")], sinks: plan.sinks });
    await expect(world.pipeline.reload(moved)).rejects.toThrow("no such thing");
    await until(() => out.texts.length === 12, "everything delivered");
    await world.stop();
    expect(out.texts).toEqual(files.texts.get("x"));
    expect(world.failures).toEqual([]);
  });

  it("takes a sink out that takes nothing, and hands the batches of one that is mended to its new self", async () => {
    const files = new GrowingFiles();
    const [out, dead] = [target(), target()];
    let isDown = true;
    dead.answer = () => (isDown ? { kind: "retry", reason: "down" } : undefined);
    const [good, bad] = [memorySink(out), memorySink(dead)];
    const source = planned("in", files.source);
    const plan = (options: unknown) =>
      memoryPlan({
        sources: [source],
        sinks: [planned("good", good, ["in"]), planned("bad", bad, ["in"], options)],
      });
    const world = await start(plan(1));
    files.grow("x", 40);
    await until(() => world.pipeline.sinks[1]!.trouble !== undefined && out.texts.length > 2, "the sink is down");
    await pause(20);
    // Its channel is full by now, and holds the source back.
    expect(out.texts.length).toBeLessThan(40);
    isDown = false;
    await world.pipeline.reload(plan(2));
    await until(() => dead.texts.length === 40, "the mended sink got everything");
    isDown = true;
    files.grow("x", 40);
    await until(() => world.pipeline.sinks[1]!.trouble !== undefined, "the sink is down again");
    await world.pipeline.reload(memoryPlan({ sources: [source], sinks: [planned("good", good, ["in"])] }));
    await until(() => out.texts.length === 80, "the other sink got everything");
    await world.stop();
    expect(dead.texts).toEqual(files.texts.get("x")!.slice(0, dead.texts.length));
    expect(out.texts).toEqual(files.texts.get("x"));
    expect(world.failures).toEqual([]);
  });

  it("tells a source that can go on with other options of them: nothing has to settle, nothing is opened again", async () => {
    const files = new GrowingFiles();
    const told: unknown[] = [];
    const source = { ...files.source, reconfigure: async (_: unknown, options: unknown) => void told.push(options) };
    const out = target();
    let isDown = true;
    out.answer = () => (isDown ? { kind: "retry", reason: "down" } : undefined);
    const sink = memorySink(out);
    const plan = (options: unknown) =>
      memoryPlan({ sources: [planned("in", source, [], options)], sinks: [planned("out", sink, ["in"])] });
    const world = await start(plan(1));
    files.grow("x", 40);
    await until(() => world.pipeline.sinks[0]!.trouble !== undefined, "the sink is down");
    expect(await world.pipeline.reload(plan(2))).toEqual(["in has changed"]);
    expect(await world.pipeline.reload(plan(2))).toEqual([]);
    expect(await world.pipeline.reload(plan(3))).toEqual(["in has changed"]);
    expect([told, files.opened]).toEqual([[2, 3], 1]);
    isDown = false;
    await until(() => out.texts.length === 40, "everything delivered");
    await world.stop();
    expect(out.texts).toEqual(files.texts.get("x"));
  });

  it("lets a source that has to start anew go on as it is until the sink that takes nothing is back", async () => {
    const files = new GrowingFiles();
    const [well, out] = [target(), target()];
    let isDown = true;
    out.answer = () => (isDown ? { kind: "retry", reason: "down" } : undefined);
    const [good, bad] = [memorySink(well), memorySink(out, { marks: true })];
    const plan = (options: unknown) =>
      memoryPlan({
        sources: [planned("in", files.source, [], options)],
        sinks: [planned("good", good, ["in"]), planned("bad", bad, ["in"])],
        capacity: 1000,
      });
    const world = await start(plan(1));
    files.grow("x", 4);
    await until(() => world.pipeline.sinks[1]!.trouble !== undefined, "the sink is down");
    const reloading = world.pipeline.reload(plan(2));
    files.grow("x", 40);
    await until(() => well.texts.length === 44, "the other sink gets what comes meanwhile");
    expect(files.opened).toBe(1);
    isDown = false;
    expect(await reloading).toEqual(["in has changed"]);
    expect(files.opened).toBe(2);
    files.grow("x", 4);
    await until(() => out.texts.length === 48 && well.texts.length === 48, "everything delivered");
    await world.stop();
    expect(well.texts).toEqual(files.texts.get("x"));
    expect(out.texts).toEqual(files.texts.get("x"));
  });

  it("takes a source out together with a sink that takes nothing", async () => {
    const [files, more] = [new GrowingFiles(), new GrowingFiles()];
    const [well, dead] = [target(), target()];
    dead.answer = () => ({ kind: "retry", reason: "down" });
    const good = memorySink(well);
    const kept = { sources: [planned("in", files.source)], sinks: [planned("good", good, ["in"])] };
    const both = memoryPlan({
      sources: [...kept.sources, planned("more", more.source)],
      sinks: [...kept.sinks, planned("bad", memorySink(dead), ["more"])],
    });
    const world = await start(both);
    more.grow("y", 3);
    await until(() => world.pipeline.sinks[1]!.trouble !== undefined, "the sink is down");
    expect(await world.pipeline.reload(memoryPlan(kept))).toEqual(["more is gone", "bad is gone"]);
    files.grow("x", 3);
    await until(() => well.texts.length === 3, "the rest goes on");
    await world.stop();
    expect(world.failures).toEqual([]);
  });

  it("reads nothing again for a new sink that is not required where that is more than it may be behind", async () => {
    const files = new GrowingFiles();
    const [well, late, later] = [target(), target(), target()];
    const source = planned("in", files.source);
    const good = planned("good", memorySink(well), ["in"]);
    const more = (name: string, out: MemoryTarget, maxLagBytes: number) => ({
      ...planned(name, memorySink(out), ["in"]),
      backfill: true,
      maxLagBytes,
    });
    const within = more("within", late, 10_000);
    const world = await start(memoryPlan({ sources: [source], sinks: [good] }));
    files.grow("x", 100);
    await until(() => well.texts.length === 100, "the first");
    await world.pipeline.reload(memoryPlan({ sources: [source], sinks: [good, within] }));
    await until(() => late.texts.length === 100, "all that there was");
    await world.pipeline.reload(memoryPlan({ sources: [source], sinks: [good, within, more("beyond", later, 50)] }));
    files.grow("x", 4);
    await until(() => later.texts.length === 4, "what comes");
    await world.stop();
    expect(well.texts).toEqual(files.texts.get("x"));
    expect(late.texts).toEqual(files.texts.get("x"));
    expect(later.texts).toEqual(files.texts.get("x")!.slice(100));
    expect(world.events).toEqual([expect.stringMatching(/^beyond gap: .*bytes 0 to 490 of/)]);
  });

  it("changes how far a sink may be behind at once, and opens nothing for it; whether it may be is for the next start", async () => {
    const files = new GrowingFiles();
    const [well, slow] = [target(), target()];
    let isDown = true;
    slow.answer = () => (isDown ? { kind: "retry", reason: "down" } : undefined);
    const [good, bad] = [memorySink(well), memorySink(slow)];
    const plan = (maxLagBytes: number | undefined) =>
      memoryPlan({
        sources: [planned("in", files.source)],
        sinks: [planned("good", good, ["in"]), { ...planned("bad", bad, ["in"]), maxLagBytes }],
      });
    const world = await start(plan(100_000));
    const dropped = () => world.pipeline.sinks[1]!.endings.dropped;
    files.grow("x", 20);
    await until(() => well.texts.length === 20, "the first");
    expect(dropped()).toBe(0);
    expect(await world.pipeline.reload(plan(50))).toEqual(["bad may now be 50 bytes behind"]);
    expect(await world.pipeline.reload(plan(undefined))).toEqual([]);
    files.grow("x", 20);
    await until(() => well.texts.length === 40, "the rest, at the other sink");
    expect(dropped()).toBe(20);
    isDown = false;
    await until(() => slow.texts.length === 20, "what it held");
    await world.stop();
  });

  it("closes a source that is acknowledged upstream once it has told the last of what it handed on, and not before", async () => {
    const happened: string[] = [];
    const out = target();
    let isDown = true;
    out.answer = () => (isDown ? { kind: "retry", reason: "down" } : undefined);
    const queue = defineSource({
      type: "queue",
      summary: "test",
      options: z.unknown(),
      replay: "acknowledged",
      open: async (options, context) => {
        const { sender, receiver } = context.channel();
        return {
          output: receiver,
          run: async ({ signal }) => {
            using _closing = sender;
            const { lines, ranges, memory } = linesBatch(context.name, `read ${options}`, 0, ["one", "two"]);
            const origin = {
              ...fileOrigin(context.name, `read ${options}`, 0, "/"),
              kind: "acknowledged" as const,
              onSettled: () => void happened.push(`told ${options}`),
            };
            await sender.send(Batch.ofLines(origin, lines!, memory, ranges[0]), { signal });
            while (!signal.aborted) await pause(1);
          },
          [Symbol.asyncDispose]: async () => void happened.push(`closed ${options}`),
        };
      },
    });
    const sink = memorySink(out);
    const plan = (options: unknown) =>
      memoryPlan({ sources: [planned("in", queue, [], options)], sinks: [planned("out", sink, ["in"])] });
    const world = await start(plan(1));
    await until(() => world.pipeline.sinks[0]!.trouble !== undefined, "the sink is down");
    await world.pipeline.reload(plan(2));
    await pause(150);
    expect(happened).toEqual([]);
    isDown = false;
    await until(() => happened.length === 3, "told and closed");
    expect(happened.indexOf("closed 1")).toBeGreaterThan(happened.indexOf("told 1"));
    await world.stop();
    expect(happened.filter((what) => what.endsWith("1"))).toEqual(["told 1", "closed 1"]);
    expect(happened.at(-1)).toBe("closed 2");
  });

  it("keeps nothing of what it replaced: sources, transforms and sinks of many reloads", async () => {
    const kept = {
      sources: [] as WeakRef<object>[],
      transforms: [] as WeakRef<object>[],
      sinks: [] as WeakRef<object>[],
    };
    const files = new GrowingFiles();
    const out = target();
    const remembered = <Stage extends object>(where: WeakRef<object>[], stage: Stage): Stage => {
      where.push(new WeakRef(stage));
      return stage;
    };
    const sinkOf = memorySink(out, { marks: true });
    const source: SourceDefinition = {
      ...files.source,
      open: async (options, context) => remembered(kept.sources, await files.source.open(options, context)),
    };
    const queue: SourceDefinition = { ...source, replay: "acknowledged" };
    const transform = {
      ...upper,
      open: async (...given: Parameters<typeof upper.open>) => remembered(kept.transforms, await upper.open(...given)),
    };
    const sink = {
      ...sinkOf,
      open: async (...given: Parameters<typeof sinkOf.open>) => remembered(kept.sinks, await sinkOf.open(...given)),
    };
    const plan = (options: unknown) =>
      memoryPlan({
        sources: [planned("in", source, [], options), planned("queue", queue, [], options)],
        transforms: [planned("pass", transform, ["in", "queue"], options)],
        sinks: [planned("out", sink, ["pass"], options)],
      });
    const world = await start(plan(0));
    for (let round = 1; round <= 8; round += 1) {
      files.grow("x", 3);
      await world.pipeline.reload(plan(round));
    }
    // What is put aside until it is safe to close it may take a moment.
    await expect
      .poll(
        async () => {
          await pause(20);
          gc();
          const left = [kept.sources, kept.transforms, kept.sinks].map(
            (all) => all.filter((stage) => stage.deref() !== undefined).length,
          );
          // The last predecessor may still be held by what the engine remembers of its end.
          return left.map((count, index) => count <= [4, 2, 2][index]!);
        },
        { timeout: 10_000 },
      )
      .toEqual([true, true, true]);
    await world.stop();
  });
});
