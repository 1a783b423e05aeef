import { parentPort, workerData } from "node:worker_threads";
import { encodeRecords } from "../codec/encode.ts";
import { toError } from "../errors.ts";
import { DataRecord, Lines, type Origin } from "../record/index.ts";
import { systemClock } from "../runtime/clock.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { systemRandom } from "../runtime/random.ts";
import type { StageContext, Transform } from "../stage/index.ts";
import { silentLogger } from "../telemetry/log.ts";
import type { Answer, Job, ThreadData } from "./messages.ts";
import { movableTransform } from "./movable.ts";

/*
 * What runs in a thread: opens the same transforms again, and makes lines of JSON out of lines, one job after the other. What
 * is wrong with the configuration was said before, by the agent's own thread, which opened them first.
 */

/** Records that go through all transforms at once: few, so that their events die young. */
const SLICE_RECORDS = 128;

interface Stage {
  readonly name: string;
  readonly transform: Transform;
}

const port = parentPort!;

async function main({ stages: given, host, stateDir }: ThreadData): Promise<void> {
  const clock = systemClock;
  const context = (name: string): StageContext => ({
    name,
    // The agent's own copy of each transform says what there is to say; these only work.
    log: silentLogger,
    events: { emit() {} },
    clock,
    random: systemRandom,
    fileSystem: nodeFileSystem,
    host,
    stateDir,
  });
  const opening = Promise.all(
    given.map(
      async ({ name, type, options }): Promise<Stage> => ({
        name,
        transform: await movableTransform(type)!.open(options as never, context(name)),
      }),
    ),
  );
  let last: Promise<void> = Promise.resolve();
  port.on("message", (job: Job) => {
    last = last.then(() => answer(job, opening, host));
  });
}

async function answer(job: Job, opening: Promise<readonly Stage[]>, host: string): Promise<void> {
  try {
    const made = await transformed(job, await opening, host);
    port.postMessage(made, [job.memory, made.json]);
  } catch (error) {
    const failed: Answer = { kind: "failed", id: job.id, reason: toError(error).message };
    port.postMessage(failed);
  }
}

async function transformed(
  job: Job,
  stages: readonly Stage[],
  host: string,
): Promise<Extract<Answer, { kind: "made" }>> {
  const count = job.ends.length;
  const { offset, ends, delimiterBytes, readAtMs, encoding } = job;
  const bytes = Buffer.from(job.memory, 0, job.length);
  const lines = new Lines({ bytes, offset, ends, count, kind: "whole", delimiterBytes, readAtMs, host, encoding });
  const origin: Origin = { source: job.source, file: job.file, key: "", kind: "replayable", recordIdPrefix: "" };
  const indexes: number[] = [];
  const splits: number[] = [];
  const rejected: { index: number; reason: string }[] = [];
  const parts: Buffer[] = [];
  for (let from = 0; from < count; from += SLICE_RECORDS) {
    const size = Math.min(SLICE_RECORDS, count - from);
    let records: readonly DataRecord[] = Array.from(
      { length: size },
      (_, at) => new DataRecord(origin, lines, from + at),
    );
    for (const { name, transform } of stages) {
      const result = await transform.apply(records);
      for (const { record, reason } of result.rejected ?? [])
        rejected.push({ index: record.index, reason: stages.length === 1 ? reason : `${name}: ${reason}` });
      records = result.kept;
    }
    for (const record of records) {
      indexes.push(record.index);
      splits.push(record.split);
    }
    parts.push(...encodeRecords(records, "json"));
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  // A quarter more, so that the next answer probably finds room in it.
  const { spare } = job;
  const json =
    spare !== undefined && spare.byteLength >= length ? spare : new ArrayBuffer(Math.ceil(length * 1.25) || 1);
  const target = Buffer.from(json);
  let at = 0;
  for (const part of parts) at += part.copy(target, at);
  return {
    kind: "made",
    id: job.id,
    memory: job.memory,
    json,
    length,
    indexes: Uint32Array.from(indexes),
    splits: Float64Array.from(splits),
    rejected,
  };
}

void main(workerData as ThreadData);
