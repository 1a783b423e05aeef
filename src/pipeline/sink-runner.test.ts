import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { channel } from "../channel/index.ts";
import { Checkpoint, MemoryCheckpointStore } from "../checkpoint/index.ts";
import { Batch } from "../record/batch.ts";
import type { Outcome, Sink } from "../stage/contract.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { Lane } from "./lane.ts";
import type { Route, Routed } from "./route.ts";
import { SinkRunner } from "./sink-runner.ts";

const turns = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

async function bench(concurrency: number, order: "file" | "none" = "file", gatherBytes = 0) {
  const clock = new ManualClock();
  const { sender, receiver } = channel<Routed>({ capacity: gatherBytes > 0 ? 10 : 2 });
  const writing = new Map<string, (outcome: Outcome) => void>();
  const sink: Sink = {
    write: (batch) =>
      new Promise<Outcome>((resolve) => {
        const key = order === "file" ? batch.origin.key : `${batch.origin.key} ${batch.ranges[0]!.start}`;
        expect(writing.has(key)).toBe(false);
        writing.set(key, resolve);
      }),
    async [Symbol.asyncDispose]() {},
  };
  const runner = new SinkRunner({
    name: "out",
    sink,
    input: receiver,
    concurrency,
    order,
    gatherBytes,
    retry: { initialMs: 1, maxMs: 1, maxAttempts: 0 },
    clock,
    random: new SeededRandom(1),
    events: { emit() {} },
    deadLetters: { put: async () => true },
    commitNow: async () => {},
    onUncommitted: () => {},
  });
  const checkpoint = await Checkpoint.load(new MemoryCheckpointStore());
  const lane = new Lane({
    source: "in",
    sink: "out",
    way: "",
    id: "out",
    checkpoint,
    keepsRecent: false,
    onDirty: () => {},
  });
  runner.setLanes([lane]);
  const route: Route = {
    component: "out",
    input: sender,
    overflow: "block",
    sendTimeoutMs: 0,
    lanes: [lane],
    next: [],
  };
  const send = (file: string, index: number) => sender.send({ batch: linesBatch("in", file, index * 2, ["x"]), route });
  const answer = (file: string) => {
    const resolve = writing.get(file)!;
    writing.delete(file);
    resolve({ kind: "delivered" });
  };
  return { runner, sink, clock, sender, receiver, route, writing, send, answer };
}

describe("SinkRunner", () => {
  it("has at most `concurrency` writes under way, of one file never more than one, and lets the rest wait in its input", async () => {
    const { runner, sender, receiver, writing, send, answer } = await bench(3);
    const running = runner.run();
    let sent = 0;
    const sending = (async () => {
      for (const file of ["a", "a", "b", "c", "d", "e", "f", "g", "h", "i"]) {
        await send(file, sent);
        sent += 1;
      }
      sender.close();
    })();
    await turns();
    // The second of `a` waits, and with it all behind: one in hand, two in the input.
    expect([[...writing.keys()], runner.unsettledBatches, receiver.counters().messages, sent]).toEqual([
      ["a"],
      1,
      2,
      4,
    ]);
    answer("a");
    await turns();
    expect([[...writing.keys()], runner.unsettledBatches, receiver.counters().messages, sent]).toEqual([
      ["a", "b", "c"],
      3,
      2,
      7,
    ]);
    for (let round = 0; round < 9; round += 1) {
      answer([...writing.keys()][0]!);
      await turns();
      expect(writing.size).toBeLessThanOrEqual(3);
    }
    await sending;
    await running;
    expect(runner.unsettledBatches).toBe(0);
  });
});

describe("SinkRunner of a sink that gathers", () => {
  it("writes what waits behind a write as one batch; refused, it is halved to the bad record, in its order", async () => {
    const { runner, sink, sender, route } = await bench(3, "file", 1000);
    const { origin } = linesBatch("in", "a", 0, ["x"]);
    const writes: string[] = [];
    let answerFirst = (_: Outcome) => {};
    sink.write = async (batch) => {
      const text = batch.records.map(({ bytes }) => bytes.toString()).join("");
      writes.push(text);
      if (text === "0") return await new Promise((resolve) => (answerFirst = resolve));
      return text.includes("3") ? { kind: "rejected", reason: "3" } : { kind: "delivered" };
    };
    const running = runner.run();
    for (const text of ["0", "1", "2", "3", "4"]) {
      const { lines } = linesBatch("in", "a", Number(text) * 2, [text]);
      await sender.send({ batch: Batch.ofLines(origin, lines!), route });
      await turns();
    }
    sender.close();
    expect(writes).toEqual(["0"]);
    answerFirst({ kind: "delivered" });
    await running;
    expect(writes).toEqual(["0", "1234", "12", "34", "3", "4"]);
    const [lane] = runner.lanes;
    expect(lane!.endings).toMatchObject({ delivered: 4, dead_lettered: 1 });
    expect(lane!.set("a").snapshot()).toEqual({ prefix: 10, ranges: [] });
  });
});

describe("SinkRunner, after a write whose outcome nobody knows", () => {
  it.each([true, false])(
    "counts a batch once, whoever says that it is there (the target itself: %s)",
    async (isThere) => {
      const { runner, sink, sender, writing, send, answer, clock } = await bench(1);
      const position = { prefix: 2, ranges: [] };
      sink.recover = async () => ({
        positions: isThere ? [{ source: "in", file: "a", way: "", value: position }] : [],
      });
      const ended = runner.run();
      await send("a", 0);
      sender.close();
      await turns();
      const unknown = writing.get("a")!;
      writing.delete("a");
      unknown({ kind: "retry", reason: "no answer", isOutcomeUnknown: true });
      await clock.advance(1000);
      await turns();
      expect(writing.has("a")).toBe(!isThere);
      if (!isThere) answer("a");
      await clock.run(ended);
      expect(runner.lanes[0]!.endings.delivered).toBe(1);
      expect(runner.acknowledgedRecords).toBe(1);
    },
  );
});

/** What a sink does with one record at one write. */
type Fate = "delivered" | "refused" | "left";

/** A runner over one batch, whose sink follows a script: a list of fates and an outcome for each write. */
async function partly(options: {
  readonly texts: readonly string[];
  readonly writes: readonly { readonly fates: readonly Fate[]; readonly outcome: Outcome; readonly rotate: number }[];
}) {
  const clock = new ManualClock();
  const { sender, receiver } = channel<Routed>({ capacity: 2 });
  const checkpoint = await Checkpoint.load(new MemoryCheckpointStore());
  const lane = new Lane({
    source: "in",
    sink: "out",
    way: "",
    id: "out",
    checkpoint,
    keepsRecent: false,
    onDirty() {},
  });
  const batch = linesBatch("in", "a", 0, options.texts);
  const endings = new Map<string, string[]>();
  const note = (id: string, ending: string) => endings.set(id, [...(endings.get(id) ?? []), ending]);
  const settled = (id: string) => lane.set("a").covers(batch.records.find((record) => record.id === id)!.range);
  const letters: string[] = [];
  let writes = 0;
  const sink: Sink = {
    async write(given, { progress }) {
      const step = options.writes[writes];
      writes += 1;
      for (const record of given.records) expect(settled(record.id)).toBe(false);
      const turned = [...given.records.keys()].map((at) => (at + (step?.rotate ?? 0)) % given.count);
      for (const at of turned) {
        const record = given.records[at]!;
        const fate = step?.fates[at] ?? "left";
        if (fate === "delivered") {
          note(record.id, "delivered");
          progress!.delivered(record);
          expect(settled(record.id)).toBe(true);
        } else if (fate === "refused") {
          const refusal = progress!.rejected(record, "odd", 3);
          // Not before its letter is durable.
          expect(settled(record.id)).toBe(false);
          note(record.id, "dead_lettered");
          if (at % 2 === 0) await refusal;
        } else progress!.failed();
      }
      const outcome = step?.outcome ?? { kind: "delivered" };
      if (outcome.kind === "delivered") {
        const left = given.records.filter((_, at) => (step?.fates[at] ?? "left") === "left");
        for (const { id } of left) note(id, "delivered");
      }
      return outcome;
    },
    async [Symbol.asyncDispose]() {},
  };
  const runner = new SinkRunner({
    name: "out",
    sink,
    input: receiver,
    concurrency: 1,
    retry: { initialMs: 1, maxMs: 1, maxAttempts: 0 },
    clock,
    random: new SeededRandom(1),
    events: { emit() {} },
    deadLetters: {
      async put(_component, rejections) {
        await Promise.resolve();
        for (const { record, reason } of rejections) {
          expect(settled(record.id)).toBe(false);
          letters.push(record.id);
          if (reason !== "odd") note(record.id, "dead_lettered");
        }
        return true;
      },
    },
    commitNow: async () => {},
    onUncommitted: () => {},
  });
  runner.setLanes([lane]);
  const route: Route = {
    component: "out",
    input: sender,
    overflow: "block",
    sendTimeoutMs: 0,
    lanes: [lane],
    next: [],
  };
  await sender.send({ batch, route });
  sender.close();
  await clock.run(runner.run());
  return { batch, lane, runner, endings, letters };
}

describe("SinkRunner, whose target was not there at the start", () => {
  const unreachable = async () => {
    const parts = await bench(1);
    let isThere = false;
    Object.assign(parts.sink, {
      recover: async () => {
        if (!isThere) throw new Error("connection refused");
        return { positions: [] };
      },
    });
    await parts.runner.recoverAtStart();
    const come = () => {
      isThere = true;
    };
    return { ...parts, come };
  };

  it("ends when its input does, with nothing for it", async () => {
    const { runner, sender, clock } = await unreachable();
    const ended = runner.run();
    await clock.advance(60_000);
    sender.close();
    await clock.run(ended, { limitMs: 1000 });
    expect(runner.trouble).toBe("connection refused");
  });

  it("waits for it while something is for it", async () => {
    const { runner, sender, send, writing, answer, clock, come } = await unreachable();
    const ended = runner.run();
    await send("a", 0);
    sender.close();
    await clock.advance(60_000);
    expect(writing.size).toBe(0);
    expect(runner.hasEnded).toBe(false);
    come();
    await clock.advance(60_000);
    expect([...writing.keys()]).toEqual(["a"]);
    answer("a");
    await clock.run(ended);
    expect(runner.trouble).toBeUndefined();
  });
});

describe("SinkRunner, with a sink that ends records one by one", () => {
  it("gives each record exactly one ending, whatever the write says of the rest", async () => {
    const fate = fc.constantFrom<Fate>("delivered", "refused", "left");
    const outcome = fc.constantFrom<Outcome>(
      { kind: "delivered" },
      { kind: "retry", reason: "not now" },
      { kind: "rejected", reason: "never" },
    );
    const write = fc.record({ fates: fc.array(fate, { minLength: 5, maxLength: 5 }), outcome, rotate: fc.nat(4) });
    const property = fc.asyncProperty(
      fc.array(fc.constant("line"), { minLength: 1, maxLength: 5 }),
      fc.array(write, { maxLength: 4 }),
      async (texts, writes) => {
        const { batch, lane, runner, endings, letters } = await partly({ texts, writes });
        for (const { id } of batch.records) expect(endings.get(id), id).toHaveLength(1);
        const count = (ending: string) => [...endings.values()].filter(([one]) => one === ending).length;
        expect(lane.endings).toEqual({
          delivered: count("delivered"),
          filtered: 0,
          dropped: 0,
          dead_lettered: count("dead_lettered"),
        });
        expect([runner.deadLetters, letters.length]).toEqual([count("dead_lettered"), count("dead_lettered")]);
        expect(runner.acknowledgedRecords).toBe(count("delivered"));
        expect(lane.set("a").snapshot()).toEqual({ prefix: batch.ranges[0]!.end, ranges: [] });
        expect(runner.unsettledBatches).toBe(0);
      },
    );
    await fc.assert(property, { numRuns: 200 });
  });

  it("writes several batches of one file at once where the order is none of its concern", async () => {
    const { runner, sender, writing, send, answer } = await bench(2, "none");
    const running = runner.run();
    await send("a", 0);
    await send("a", 1);
    await turns();
    expect(runner.unsettledBatches).toBe(2);
    sender.close();
    while (writing.size > 0) {
      answer([...writing.keys()][0]!);
      await turns();
    }
    await running;
  });
});
