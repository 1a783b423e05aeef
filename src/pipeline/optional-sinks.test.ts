import { describe, expect, it } from "vitest";
import { z } from "zod";
import { batchOf, letterOf } from "../dead-letters/index.ts";
import { defineTransform } from "../stage/define.ts";
import { memoryPlan, planned } from "../testing/memory-plan.ts";
import { linesBatch, type MemoryTarget, memorySink, memorySource } from "../testing/memory-stages.ts";
import { MemoryWorld } from "../testing/memory-world.ts";

const target = (): MemoryTarget => ({ texts: [], mark: 0 });
const numbered = (file: string, count: number) => Array.from({ length: count }, (_, index) => `${file} ${index}`);
const optional = <Planned>(sink: Planned, maxLagBytes: number) => ({ ...sink, maxLagBytes });

const shout = defineTransform({
  type: "shout",
  summary: "test",
  options: z.unknown(),
  open: async () => ({
    apply: (records) => ({
      kept: records.map((record) => record.with({ ...record.event, message: `${record.event["message"]}!` })),
    }),
  }),
});

/** Takes nothing until `open` is called. */
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, answer: () => opened.then(() => undefined) };
}

describe("a sink with required = false", () => {
  it.each([
    ["straight from the source", false],
    ["behind a transform that both share", true],
  ])(
    "holds nobody back while it takes nothing; all it is not handed is dropped and counted (%s)",
    async (_, shared) => {
      const world = new MemoryWorld();
      const { open, answer } = gate();
      const [well, stuck] = [target(), { ...target(), answer }];
      const lines = numbered("x", 20_000);
      const from = shared ? "shout" : "in";
      const plan = memoryPlan({
        sources: [planned("in", memorySource(new Map([["x", lines]]), 50))],
        transforms: shared ? [planned("shout", shout, ["in"])] : [],
        sinks: [
          planned("well", memorySink(well), [from]),
          optional(planned("stuck", memorySink(stuck), [from]), 10_000),
        ],
      });
      const { pipeline, channels } = await world.open(plan);
      const running = pipeline.run({ signal: new AbortController().signal, once: true });
      await expect.poll(() => well.texts.length, { timeout: 10_000 }).toBe(20_000);
      open();
      await running;
      await pipeline.close();
      expect(well.texts).toEqual(shared ? lines.map((line) => `${line}!`) : lines);
      // In order, and with nothing that is not a line.
      const got = new Set(stuck.texts);
      expect(stuck.texts).toEqual(well.texts.filter((text) => got.has(text)));
      const lane = pipeline.sinks.find(({ name }) => name === "stuck")!.lanes[0]!;
      expect(lane.endings.dropped).toBeGreaterThan(10_000);
      expect(lane.endings.delivered + lane.endings.dropped).toBe(20_000);
      const counters = channels
        .list()
        .find(({ component }) => component === "stuck")!
        .counters();
      expect(counters.records).toMatchObject({
        sent: 20_000,
        received: stuck.texts.length,
        inChannel: 0,
        dropped: { policy: lane.endings.dropped, closed: 0 },
      });
      // Everything has ended everywhere: nothing is read again.
      const { positions } = await world.store.load();
      expect(positions.map(({ value }) => value)).toEqual([
        { prefix: lines.join("\n").length + 1, ranges: [] },
        { prefix: lines.join("\n").length + 1, ranges: [] },
      ]);
    },
  );

  it("gets everything where it is behind by less than its limit: no batch of what fits is left out", async () => {
    const world = new MemoryWorld();
    const { open, answer } = gate();
    const [well, slow] = [target(), { ...target(), answer }];
    const lines = numbered("x", 3000);
    const plan = memoryPlan({
      sources: [planned("in", memorySource(new Map([["x", lines]]), 20))],
      sinks: [
        planned("well", memorySink(well), ["in"]),
        // More than there is: nothing may be dropped, however many batches that are.
        optional(planned("slow", memorySink(slow), ["in"]), 1 << 20),
      ],
    });
    const { pipeline } = await world.open(plan);
    const running = pipeline.run({ signal: new AbortController().signal, once: true });
    await expect.poll(() => well.texts.length, { timeout: 10_000 }).toBe(3000);
    expect(slow.texts).toEqual([]);
    open();
    await running;
    await pipeline.close();
    expect(slow.texts).toEqual(lines);
  });

  it("has copies of its own: what it holds takes no room from a transform that others need, and is whole when it comes", async () => {
    const world = new MemoryWorld();
    const { open, answer } = gate();
    const [well, slow] = [target(), { ...target(), answer }];
    // As events many times what a transform may have made and nobody has taken.
    const lines = numbered("x", 30_000);
    const plan = memoryPlan({
      sources: [planned("in", memorySource(new Map([["x", lines]]), 100))],
      transforms: [planned("shout", shout, ["in"])],
      sinks: [
        planned("well", memorySink(well), ["shout"]),
        optional(planned("slow", memorySink(slow), ["shout"]), 8 << 20),
      ],
    });
    const { pipeline } = await world.open(plan);
    const running = pipeline.run({ signal: new AbortController().signal, once: true });
    await expect.poll(() => well.texts.length, { timeout: 10_000 }).toBe(30_000);
    expect(slow.texts).toEqual([]);
    open();
    await running;
    await pipeline.close();
    expect(pipeline.sinks[1]!.endings).toMatchObject({ delivered: 30_000, dropped: 0 });
    expect(slow.texts).toEqual(lines.map((line) => `${line}!`));
  });

  it("drops no dead letter that is sent again, however far behind it is", async () => {
    const world = new MemoryWorld();
    const { open, answer } = gate();
    const held = gate();
    const [well, stuck] = [
      { ...target(), answer: held.answer },
      { ...target(), answer },
    ];
    const plan = memoryPlan({
      sources: [planned("in", memorySource(new Map([["x", numbered("x", 2000)]]), 50))],
      sinks: [planned("well", memorySink(well), ["in"]), optional(planned("stuck", memorySink(stuck), ["in"]), 400)],
    });
    const { pipeline } = await world.open(plan);
    const running = pipeline.run({ signal: new AbortController().signal, once: true });
    const [record] = linesBatch("in", "y", 0, ["letter"]).records;
    let told = 0;
    const letter = batchOf(letterOf(record!, { component: "stuck", reason: "bad", attempts: 1, nowMs: 0 }), () => {
      told += 1;
    });
    await expect.poll(() => pipeline.sinks[1]!.endings.dropped).toBeGreaterThan(0);
    // It waits where others are dropped.
    const sending = pipeline.resend("stuck", "in", letter);
    held.open();
    await expect.poll(() => well.texts.length).toBe(2000);
    expect(told).toBe(0);
    open();
    await Promise.all([sending, running]);
    await pipeline.close();
    expect(told).toBe(1);
    expect(stuck.texts).toContain("letter");
  });

  it("is not waited for at the start when it is too far behind: what is over its limit is a gap, with its range", async () => {
    const world = new MemoryWorld();
    const { answer } = gate();
    const lines = numbered("x", 2000);
    const early = lines.slice(0, 1000);
    const bytes = early.join("\n").length + 1;
    const plan = (texts: readonly string[], well: MemoryTarget, late: MemoryTarget, maxLagBytes: number) =>
      memoryPlan({
        sources: [planned("in", memorySource(new Map([["x", texts]]), 50))],
        sinks: [
          planned("well", memorySink(well), ["in"]),
          optional(planned("late", memorySink(late), ["in"]), maxLagBytes),
        ],
      });
    const isCommitted = async () =>
      (await world.store.load()).positions.some(({ sink, value }) => sink === "well" && value.prefix === bytes);
    await world.runAndKill(plan(early, target(), { ...target(), answer }, 1 << 20), () =>
      expect.poll(isCommitted).toBe(true),
    );
    // Within its limit it is read again for it alone.
    const [again, repeated] = [target(), target()];
    await world.runAndKill(plan(early, again, { ...repeated, answer }, bytes), () =>
      expect.poll(isCommitted).toBe(true),
    );
    expect(world.events).toEqual([]);
    // Beyond it, it goes on where the others are.
    const [well, late] = [target(), target()];
    await world.runOnce(plan(lines, well, late, bytes - 1));
    expect(world.events).toEqual([{ component: "late", event: "gap", facts: { file: "x", offset: 0, bytes } }]);
    expect(late.texts.length).toBeGreaterThan(0);
    expect(late.texts.filter((text) => !lines.slice(1000).includes(text))).toEqual([]);
    expect(well.texts).toEqual(lines.slice(1000));
  });
});
