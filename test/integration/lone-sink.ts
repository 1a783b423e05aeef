import type { Json } from "../../src/checkpoint/index.ts";
import type { Batch } from "../../src/record/index.ts";
import type { Marks, Outcome, Sink, SinkContext } from "../../src/stage/index.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { linesBatch } from "../../src/testing/memory-stages.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { eventually } from "../servers/nats.ts";

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
  const { signal } = new AbortController();
  const outcomes: Outcome[] = [];
  for (let tries = 0; tries < 100; tries += 1) {
    const outcome = await sink.write(batch, { signal, way: "" });
    outcomes.push(outcome);
    if (outcome.kind === "delivered") return outcomes;
    if (outcome.kind === "retry" && outcome.isOutcomeUnknown) await eventually(() => sink.recover!(), 30_000);
  }
  throw new Error(`not delivered: ${JSON.stringify(outcomes.at(-1))}`);
}
