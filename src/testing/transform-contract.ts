import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import type { Batch, DataRecord, EventFields } from "../record/index.ts";
import type { StageContext, Transform, TransformDefinition, TransformResult } from "../stage/index.ts";
import type { ContractCase } from "./contract-case.ts";
import { linesBatch } from "./memory-stages.ts";

export interface TransformHarness {
  readonly definition: TransformDefinition;
  /** As in the configuration, without `type` and `inputs`. */
  readonly options: unknown;
  readonly context: StageContext;
  /** Lines that show what it does: some kept, some not, some refused. */
  readonly samples: readonly string[];
}

/**
 * The rules of a transform without state, from the contract in `stage/contract.ts` and the delivery contract, sections 2
 * and 5. `for (const { title, run } of transformContract(harness)) it(title, run)`.
 */
export function transformContract(harness: TransformHarness): readonly ContractCase[] {
  const withTransform = async (use: (transform: Transform) => Promise<void>): Promise<void> => {
    const { definition, options, context } = harness;
    const transform = await definition.open(definition.options.parse(options), context);
    try {
      await use(transform);
    } finally {
      await transform[Symbol.asyncDispose]?.();
    }
  };
  const samples = () => recordsOf(harness.samples);

  return [
    {
      title: "refuses an option that it does not know",
      run: async () => {
        const options = { ...(harness.options as object), no_such_option: 1 };
        strictEqual(harness.definition.options.safeParse(options).success, false);
      },
    },
    {
      title: "ends each record in one way only: kept, refused with a reason, or left out",
      run: () =>
        withTransform(async (transform) => {
          const records = samples();
          const { kept, rejected = [] } = await transform.apply(records);
          const keptKeys = new Set(kept.map(keyOf));
          const rejectedKeys = rejected.map(({ record }) => keyOf(record));
          const known = new Set(records.map(keyOf));
          for (const key of [...keptKeys, ...rejectedKeys]) ok(known.has(key), `${key} was never put in`);
          strictEqual(new Set(rejectedKeys).size, rejectedKeys.length, "a record was refused twice");
          for (const key of rejectedKeys) ok(!keptKeys.has(key), `${key} was kept and refused`);
          for (const { reason } of rejected) ok(reason.trim().length > 0, "a record was refused without a reason");
        }),
    },
    {
      title: "keeps the order of records, and gives each an id of its own",
      run: () =>
        withTransform(async (transform) => {
          const { kept } = await transform.apply(samples());
          const offsets = kept.map(({ offset }) => offset);
          deepStrictEqual(
            offsets,
            [...offsets].sort((left, right) => left - right),
          );
          strictEqual(new Set(kept.map(({ id }) => id)).size, kept.length);
        }),
    },
    {
      title: "keeps each record's origin, range and bytes",
      run: () =>
        withTransform(async (transform) => {
          const records = samples();
          const { kept } = await transform.apply(records);
          for (const record of kept) {
            const before = records[record.index]!;
            strictEqual(record.origin, before.origin);
            deepStrictEqual(record.range, before.range);
            deepStrictEqual(record.bytes, before.bytes);
          }
        }),
    },
    {
      title: "changes no event that it was handed, since branches share them",
      run: () =>
        withTransform(async (transform) => {
          const records = samples().map((record) =>
            record.with(frozen({ ...record.event, nested: { list: [{ a: 1 }] } })),
          );
          const before = records.map(({ event }) => JSON.stringify(event));
          await transform.apply(records);
          deepStrictEqual(
            records.map(({ event }) => JSON.stringify(event)),
            before,
          );
        }),
    },
    {
      title: "makes events that JSON can carry",
      run: () =>
        withTransform(async (transform) => {
          const { kept } = await transform.apply(samples());
          for (const { event } of kept) deepStrictEqual(JSON.parse(JSON.stringify(event)), event);
        }),
    },
    {
      title: "gives a replay the same answer, however the records are cut into batches",
      run: async () => {
        let whole: unknown;
        await withTransform(async (transform) => {
          whole = shown([await transform.apply(samples())]);
        });
        await withTransform(async (transform) => {
          const single: TransformResult[] = [];
          for (const record of samples()) single.push(await transform.apply([record]));
          deepStrictEqual(shown(single), whole);
        });
      },
    },
    {
      title: "takes an empty batch",
      run: () =>
        withTransform(async (transform) => {
          const { kept, rejected = [] } = await transform.apply([]);
          strictEqual(kept.length + rejected.length, 0);
        }),
    },
    {
      title: "ends hostile records like others, and never throws",
      run: () =>
        withTransform(async (transform) => {
          const records = recordsOf(HOSTILE);
          const { kept, rejected = [] } = await transform.apply(records);
          for (const { event } of kept) JSON.stringify(event);
          ok(kept.length + rejected.length <= records.length * 1000);
          const strange = records.map((record, index) =>
            record.with(frozen(HOSTILE_EVENTS[index % HOSTILE_EVENTS.length]!)),
          );
          await transform.apply(strange);
        }),
    },
  ];
}

const keyOf = (record: DataRecord) => `${record.offset}`;

function shown(results: readonly TransformResult[]): unknown {
  return {
    kept: results.flatMap(({ kept }) => kept.map(({ id, event }) => ({ id, event }))),
    rejected: results.flatMap(({ rejected = [] }) => rejected.map(({ record, reason }) => ({ id: record.id, reason }))),
  };
}

function recordsOf(texts: readonly string[]): readonly DataRecord[] {
  return contractBatch(texts).records;
}

/** An untouched batch of lines of one file. */
export function contractBatch(texts: readonly string[], options: { offset?: number; key?: string } = {}): Batch {
  return linesBatch("contract", options.key ?? "contract", options.offset ?? 0, texts);
}

function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const part of Object.values(value)) frozen(part);
    Object.freeze(value);
  }
  return value;
}

const HOSTILE: readonly string[] = [
  "",
  "\r",
  "\ufeff{}",
  "\0",
  "\ud800",
  "null",
  "[]",
  '"text"',
  "{",
  '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}',
  '{"a":1,"a":2}',
  '{"a":1e999}',
  '{"a":123456789012345678901234567890}',
  '{"toString":1,"hasOwnProperty":2,"toJSON":3}',
  `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
  "x".repeat(100_000),
];

const HOSTILE_EVENTS: readonly EventFields[] = [
  {},
  { message: null },
  { message: 5 },
  { message: { toString: 1 } },
  { message: ["{}"] },
  JSON.parse('{"message":"{}","__proto__":{"polluted":true}}') as EventFields,
];
