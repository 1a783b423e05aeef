import type { Json } from "../../src/checkpoint/index.ts";
import type { Batch } from "../../src/record/index.ts";
import type { Marks, Outcome, Sink, SinkContext } from "../../src/stage/index.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { linesBatch } from "../../src/testing/memory-stages.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { eventually } from "../servers/nats.ts";
import { passing } from "../servers/server-process.ts";

/** What the store is to a sink without a pipeline: marks that outlive it. And what it warned of. */
export class KeptMarks {
  readonly marks = new Map<string, Json>();
  readonly warnings: string[] = [];

  /** For the next life of the sink. */
  context(): SinkContext {
    return sinkContext({
      marks: new Map(this.marks),
      saveMarks: async (marks) => this.save(marks),
      log: { ...silentLogger, warn: (_facts: object, message: string) => void this.warnings.push(message) },
    });
  }

  save(marks: Marks): void {
    for (const [name, value] of Object.entries(marks)) {
      if (value === undefined) this.marks.delete(name);
      else this.marks.set(name, value);
    }
  }

  /** The barrier, and its commit. */
  async commit(sink: Sink): Promise<void> {
    this.save(await sink.prepare!());
  }
}

/** A batch of lines `KEY FROM` to `KEY TO`, at the offset where the first stands in its file. */
export function numberedLines(key: string, from: number, to: number): Batch {
  const textOf = (number: number) => `${key} ${String(number).padStart(6, "0")}`;
  const texts = Array.from({ length: to - from }, (_, index) => textOf(from + index));
  return linesBatch("app", key, from * (textOf(0).length + 1), texts);
}

/** Writes a batch as the pipeline does, until it is delivered; what the sink said of each attempt. */
export async function deliver(sink: Sink, batch: Batch): Promise<Outcome[]> {
  const outcomes = await outcomesOf(sink, batch);
  if (outcomes.at(-1)?.kind === "delivered") return outcomes;
  throw new Error(`not delivered: ${JSON.stringify(outcomes.at(-1))}`);
}

/** What the sink says in the end of a batch, delivered or not: a loaded server may need to be asked twice. */
export async function fateOf(sink: Sink, batch: Batch): Promise<Outcome | undefined> {
  return (await outcomesOf(sink, batch)).at(-1);
}

async function outcomesOf(sink: Sink, batch: Batch): Promise<Outcome[]> {
  const { signal } = new AbortController();
  const outcomes: Outcome[] = [];
  for (const endMs = Date.now() + 60_000; Date.now() < endMs; await passing(20)) {
    const outcome = await sink.write(batch, { signal, way: "" });
    outcomes.push(outcome);
    if (outcome.kind !== "retry") return outcomes;
    if (outcome.isOutcomeUnknown) await eventually(() => sink.recover!());
  }
  return outcomes;
}
