import { z } from "zod";
import { ConfigError, toError } from "../errors.ts";
import { type DataRecord, type EventFields, freshEvent } from "../record/index.ts";
import type { Clock } from "../runtime/clock.ts";
import { loadModule } from "../runtime/load-module.ts";
import { defineTransform, type Rejection } from "../stage/index.ts";
import { copyOfPlain, kindOf, plainEvent } from "./map/plain-event.ts";

/**
 * What the module of a `map` exports by default, or what stands as `function` in `tailrace.config.ts`. The event is the
 * function's own copy: it may change it and return it.
 */
export type MapFunction = (
  event: EventFields,
) => EventFields | readonly EventFields[] | undefined | Promise<EventFields | readonly EventFields[] | undefined>;

/**
 * Calls a function of the user's for each record, in order: an event replaces the record's, a list splits it (the ids
 * get an index), undefined or an empty list ends it as `filtered`. Order is kept also where calls overlap.
 *
 * A call that throws, takes too long, or returns what is no plain data, rejects that one record: it goes to the dead
 * letters with the message. It never ends the process and never stalls the file. After a crash records are mapped again,
 * so a function with effects of its own sees records more than once; one whose result depends on more than the event
 * gives a replay other records than the first run, under the same ids.
 *
 * The function runs in the agent's own thread: while it computes, nothing else moves, and what it starts and does not
 * await is out of our reach.
 */
export const map = defineTransform({
  type: "map",
  summary: "Changes, splits or leaves out records by a function of yours, in TypeScript or JavaScript.",
  options: z
    .strictObject({
      module: z
        .string({ error: ({ input }) => (typeof input === "function" ? "write it as `function`" : undefined) })
        .min(1)
        .optional()
        .describe(
          "File with the function as its default export: (event) => event | event[] | undefined. Needed in a TOML.",
        ),
      function: z
        .custom<MapFunction>(
          (value) => typeof value === "function",
          'only tailrace.config.ts can hold a function; a TOML names its file: module = "./shape.ts"',
        )
        .optional()
        .describe("In `tailrace.config.ts`, in place of `module`: the function itself. It never works in a thread."),
      timeout_ms: z
        .int()
        .nonnegative()
        .default(30000)
        .describe("Longest wait for an asynchronous call, milliseconds, before its record is rejected; 0: no limit."),
      concurrency: z
        .int()
        .positive()
        .max(1000)
        .default(1)
        .describe("Asynchronous calls under way at once; the order of records stays the same."),
    })
    .superRefine((options, context) => {
      if (options.module !== undefined && options.function !== undefined)
        context.addIssue({ code: "custom", path: ["function"], message: "there is a module too; give one of the two" });
      else if (options.module === undefined && options.function === undefined)
        context.addIssue({ code: "custom", path: ["module"], message: "is missing" });
    }),
  // A function too: the same text may mean something else, by what stands around it.
  readsFiles: true,
  async check(options) {
    try {
      if (options.module !== undefined) loaded.set(options, await functionOf(options.module));
      return [];
    } catch (thrown) {
      return [{ path: ["module"], message: toError(thrown).message }];
    }
  },
  async open(options, { clock }) {
    const call = options.function ?? loaded.get(options) ?? (await functionOf(options.module!));
    // Opened once more, it is what the file says then.
    loaded.delete(options);
    return {
      async apply(records) {
        const results = await callAll(records, options.concurrency, (record) =>
          resultOf(record, call, { clock, timeoutMs: options.timeout_ms }),
        );
        const kept: DataRecord[] = [];
        const rejected: Rejection[] = [];
        for (const [index, result] of results.entries()) {
          if (typeof result === "string") rejected.push({ record: records[index]!, reason: result });
          else kept.push(...result);
        }
        return { kept, rejected };
      },
    };
  },
});

/** What `check` has loaded for `open`, by the options: what a module does when it is loaded, it does once. */
const loaded = new WeakMap<object, MapFunction>();

async function functionOf(module: string): Promise<MapFunction> {
  const exports = await loadModule(module);
  const call = exports["default"];
  if (typeof call === "function") return call as MapFunction;
  const found = call === undefined ? "there is none" : `it is ${kindOf(call)}`;
  throw new ConfigError([
    { file: module, message: `the default export must be a function (event) => event | event[] | undefined; ${found}` },
  ]);
}

/** Records, or why the one that went in is rejected. */
type Result = readonly DataRecord[] | string;

/** Starts calls in order, `concurrency` at a time, and awaits only where a call is asynchronous. */
async function callAll(
  records: readonly DataRecord[],
  concurrency: number,
  call: (record: DataRecord) => Result | Promise<Result>,
): Promise<readonly Result[]> {
  const results = new Array<Result>(records.length);
  const pending = new Set<Promise<void>>();
  for (const [index, record] of records.entries()) {
    const result = call(record);
    if (!(result instanceof Promise)) {
      results[index] = result;
      continue;
    }
    const done = result.then((settled) => {
      results[index] = settled;
      pending.delete(done);
    });
    pending.add(done);
    if (pending.size >= concurrency) await Promise.race(pending);
  }
  await Promise.all(pending);
  return results;
}

function resultOf(
  record: DataRecord,
  call: MapFunction,
  limit: { clock: Clock; timeoutMs: number },
): Result | Promise<Result> {
  try {
    const event = record.isUntouched ? freshEvent(record) : (copyOfPlain(record.event) as EventFields);
    const returned = call(event);
    if (!isThenable(returned)) return recordsOf(record, returned);
    return settle(returned, limit)
      .then((value) => recordsOf(record, value))
      .catch(reasonOf);
  } catch (thrown) {
    return reasonOf(thrown);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

function settle(
  returned: PromiseLike<unknown>,
  { clock, timeoutMs }: { clock: Clock; timeoutMs: number },
): Promise<unknown> {
  if (timeoutMs === 0) return Promise.resolve(returned);
  return new Promise((resolve, reject) => {
    const timer = clock.after(timeoutMs, () => reject(new Error(`it did not finish within ${timeoutMs} ms`)));
    Promise.resolve(returned)
      .then(resolve, reject)
      .finally(() => timer.cancel());
  });
}

function reasonOf(thrown: unknown): string {
  let message = "a value that cannot be shown";
  try {
    message = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  } catch {
    // Whatever was thrown has no text; the sentence above stands.
  }
  return `the function failed: ${message}`;
}

function recordsOf(record: DataRecord, returned: unknown): Result {
  if (returned === undefined) return [];
  const events: readonly unknown[] = Array.isArray(returned) ? returned : [returned];
  const records: DataRecord[] = [];
  for (const [index, value] of events.entries()) {
    const result = plainEvent(value);
    if (result.mistake !== undefined) {
      const what =
        events === returned ? `item ${index} of the list that the function returned` : "what the function returned";
      return `${what} is no event: ${result.mistake}`;
    }
    const split = nestedSplit(record.split, index);
    if (split === undefined) return "the function returned more events than one record can be split into";
    records.push(record.with(result.event, split));
  }
  return records;
}

/** Most events of one split. */
const MAX_SPLIT = 2 ** 20;

/**
 * The index of part `inner` of a record that is itself part `outer` of an earlier split. Unique and the same after a
 * restart, since it follows from the two alone: two digits to the base 2^20. Undefined where the number would be too big.
 */
export function nestedSplit(outer: number, inner: number): number | undefined {
  const split = outer * MAX_SPLIT + inner;
  return inner < MAX_SPLIT && Number.isSafeInteger(split) ? split : undefined;
}
