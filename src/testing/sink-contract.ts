import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import type { Batch } from "../record/index.ts";
import type { Outcome, Sink, SinkContext, SinkDefinition } from "../stage/index.ts";
import type { ContractCase } from "./contract-case.ts";
import { contractBatch } from "./transform-contract.ts";

/** A real target of a sink, started and empty. */
export interface SinkTarget {
  /** As in the configuration, without `type` and `inputs`; with `encoding = "json"`. */
  readonly options: unknown;
  /** Every whole line that the target has taken, in order of arrival; repeats are repeated. */
  lines(): readonly string[];
  /** Connections that are open now; undefined for a target without connections. */
  connections?(): number;
  /** As by SIGKILL; undefined for a target that cannot die by itself. */
  kill?(): Promise<void>;
  /** Comes back at the same address with all it had taken. */
  start?(): Promise<void>;
  /** Takes no more, without failing; undefined where it cannot. */
  stall?(): void;
  /** Ends everything. */
  close(): Promise<void>;
}

export interface SinkHarness {
  readonly definition: SinkDefinition;
  readonly context: SinkContext;
  target(): Promise<SinkTarget>;
}

/** Files at once in these cases, at most. */
const MAX_KEYS = 32;
/** Longest wait for anything in these cases: far more than a healthy sink needs. */
const PATIENCE_MS = 30_000;

/**
 * The rules of a sink, from the contract in `stage/contract.ts` and the delivery contract, section 6.
 * `for (const { title, run } of sinkContract(harness)) it(title, run)`.
 */
export function sinkContract(harness: SinkHarness): readonly ContractCase[] {
  const { definition, context } = harness;
  const never = new AbortController().signal;

  const withSink = async (use: (sink: Sink, target: SinkTarget) => Promise<void>): Promise<void> => {
    const target = await harness.target();
    try {
      const sink = await definition.open(definition.options.parse(target.options), context);
      try {
        await sink.recover?.();
        await use(sink, target);
      } finally {
        await soon(sink[Symbol.asyncDispose](), "dispose");
      }
    } finally {
      await target.close();
    }
  };

  /** As the pipeline does it: until the sink has taken the batch. */
  const deliver = async (sink: Sink, batch: Batch): Promise<Outcome[]> => {
    const outcomes: Outcome[] = [];
    const endAt = Date.now() + PATIENCE_MS;
    for (;;) {
      const outcome = await soon(sink.write(batch, { signal: never }), "write");
      outcomes.push(outcome);
      if (outcome.kind === "delivered") return outcomes;
      strictEqual(outcome.kind, "retry", `the batch was ${outcome.kind}: ${outcome.reason}`);
      ok(outcome.reason.trim().length > 0, "a retry without a reason");
      ok(Date.now() < endAt, `the batch was not taken: ${outcome.reason}`);
      await pause(10);
      // Where the target is not back yet, the next write says so again.
      if (outcome.kind === "retry" && outcome.isOutcomeUnknown) await sink.recover?.().catch(() => {});
    }
  };

  const messages = (target: SinkTarget) =>
    target.lines().map((line) => (JSON.parse(line) as { message: unknown }).message);
  const arrived = (target: SinkTarget, expected: readonly string[]) =>
    until(() => expected.every((message) => messages(target).includes(message)), `${expected.join(", ")} to arrive`);

  const cases: ContractCase[] = [
    {
      title: "refuses an option that it does not know",
      run: async () => {
        const target = await harness.target();
        await target.close();
        const options = { ...(target.options as object), no_such_option: 1 };
        strictEqual(definition.options.safeParse(options).success, false);
      },
    },
    {
      title: "delivers every record of each batch once and in order, while all is well",
      run: () =>
        withSink(async (sink, target) => {
          const expected: string[] = [];
          for (let batch = 0; batch < 5; batch += 1) {
            const texts = [`${batch} ü`, `${batch} "quoted"`, `${batch} ${"long ".repeat(1000)}`];
            expected.push(...texts);
            deepStrictEqual(await deliver(sink, contractBatch(texts, { offset: batch * 10_000 })), [
              { kind: "delivered" },
            ]);
          }
          await until(() => messages(target).length >= expected.length, "all records");
          deepStrictEqual(messages(target), expected);
        }),
    },
    {
      title: "delivers events that transforms made",
      run: () =>
        withSink(async (sink, target) => {
          const batch = contractBatch(["a", "b", "c"]);
          const [first, , third] = batch.records;
          const made = batch.withRecords([first!.with({ message: "one", n: 1 }), third!.with({ message: "two" }, 1)]);
          await deliver(sink, made);
          await arrived(target, ["one", "two"]);
          deepStrictEqual(
            target.lines().map((line) => JSON.parse(line) as unknown),
            [{ message: "one", n: 1 }, { message: "two" }],
          );
        }),
    },
    {
      title: "delivers batches of several files that are under way at once, each in order",
      run: () =>
        withSink(async (sink, target) => {
          const { concurrency = 1 } = definition;
          const atOnce =
            typeof concurrency === "number" ? concurrency : concurrency(definition.options.parse(target.options));
          const keys = Array.from({ length: Math.min(atOnce, MAX_KEYS) }, (_, index) => `file-${index}`);
          await Promise.all(
            keys.map(async (key) => {
              for (let batch = 0; batch < 3; batch += 1) {
                await deliver(
                  sink,
                  contractBatch([`${key} ${batch}a`, `${key} ${batch}b`], { key, offset: batch * 1000 }),
                );
              }
            }),
          );
          const all = keys.map((key) => ["0a", "0b", "1a", "1b", "2a", "2b"].map((part) => `${key} ${part}`));
          await arrived(target, all.flat());
          for (const [index, key] of keys.entries()) {
            const own = messages(target).filter((message) => String(message).startsWith(`${key} `));
            deepStrictEqual(own, all[index]);
          }
        }),
    },
    {
      title: "gives up when it is told to, without a word of delivery",
      run: () =>
        withSink(async (sink, target) => {
          await target.kill?.();
          const abort = new AbortController();
          abort.abort();
          const outcome = await soon(sink.write(contractBatch(["late"]), { signal: abort.signal }), "an aborted write");
          if (target.kill !== undefined) strictEqual(outcome.kind, "retry");
        }),
    },
    {
      title: "leaves no connection behind",
      run: async () => {
        const target = await harness.target();
        try {
          const sink = await definition.open(definition.options.parse(target.options), context);
          await deliver(sink, contractBatch(["a"]));
          await soon(sink[Symbol.asyncDispose](), "dispose");
          await until(() => (target.connections?.() ?? 0) === 0, "every connection to be closed");
        } finally {
          await target.close();
        }
      },
    },
    {
      title: "can be opened and disposed without ever writing",
      run: () => withSink(async () => {}),
    },
  ];

  cases.push(
    {
      title: "asks for a retry while the target is dead, and delivers once it is back",
      run: () =>
        withSink(async (sink, target) => {
          if (target.kill === undefined || target.start === undefined) return;
          await deliver(sink, contractBatch(["before"]));
          await arrived(target, ["before"]);
          await target.kill();
          const batch = contractBatch(["during"], { offset: 100 });
          const outcome = await soon(sink.write(batch, { signal: never }), "write");
          strictEqual(outcome.kind, "retry");
          await target.start();
          await deliver(sink, batch);
          await arrived(target, ["during"]);
        }),
    },
    {
      title: "loses nothing that it called delivered when the target dies between two writes, again and again",
      run: () =>
        withSink(async (sink, target) => {
          if (target.kill === undefined || target.start === undefined) return;
          const expected: string[] = [];
          for (let round = 0; round < 5; round += 1) {
            const text = `round ${round}`;
            expected.push(text);
            await deliver(sink, contractBatch([text], { offset: round * 100 }));
            // Dying with lines unread is what some protocols cannot notice; here the target has read all there is.
            await arrived(target, [text]);
            await target.kill();
            await target.start();
          }
          deepStrictEqual([...new Set(messages(target))], expected);
        }),
    },
    {
      title: "waits for a target that stalls, and gives up when it is told to",
      run: () =>
        withSink(async (sink, target) => {
          if (target.stall === undefined) return;
          target.stall();
          const abort = new AbortController();
          // More than the buffers of both kernels hold.
          const large = contractBatch(Array.from({ length: 64 }, () => "x".repeat(262_144)));
          let settled: Outcome | undefined;
          const write = sink.write(large, { signal: abort.signal }).then((outcome) => {
            settled = outcome;
          });
          await pause(100);
          strictEqual(settled, undefined, "a stalled target must hold the write back");
          abort.abort();
          await soon(write, "an aborted write");
          strictEqual(settled!.kind, "retry");
        }),
    },
    {
      title: "is disposed in good time while the target is dead",
      run: () =>
        withSink(async (sink, target) => {
          await deliver(sink, contractBatch(["a"]));
          await target.kill?.();
        }),
    },
  );
  if (definition.probe !== undefined) {
    cases.push({
      title: "tells in a probe whether the target is there, and leaves nothing in it",
      run: async () => {
        const target = await harness.target();
        try {
          const options = definition.options.parse(target.options);
          await definition.probe!(options, context);
          deepStrictEqual(target.lines(), []);
          if (target.kill === undefined) return;
          await target.kill();
          let failure: unknown;
          await soon(definition.probe!(options, context), "probe").catch((thrown: unknown) => {
            failure = thrown;
          });
          ok(failure instanceof Error && failure.message.length > 0, "a probe of a dead target must reject");
        } finally {
          await target.close();
        }
      },
    });
  }
  return cases;
}

/** The promise's value, unless it takes longer than anything healthy does. */
async function soon<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took longer than ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function until(holds: () => boolean, what: string): Promise<void> {
  const endAt = Date.now() + PATIENCE_MS;
  while (!holds()) {
    ok(Date.now() < endAt, `waited too long for ${what}`);
    await pause(5);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
