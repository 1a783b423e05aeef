import { z } from "zod";
import type { Batch } from "../record/batch.ts";
import { Batch as BatchOf } from "../record/batch.ts";
import { Lines } from "../record/lines.ts";
import { fileOrigin } from "../record/origin.ts";
import type { Marks, Outcome, Sink, SinkContext, Source, SourceContext } from "../stage/contract.ts";
import { defineSink, defineSource, type SinkDefinition, type SourceDefinition } from "../stage/define.ts";

/** Whole lines as a batch of one origin, starting at `offset`. */
export function linesBatch(source: string, key: string, offset: number, texts: readonly string[]): Batch {
  const bytes = Buffer.from(texts.map((text) => `${text}\n`).join(""));
  const ends = new Uint32Array(texts.length);
  let end = 0;
  texts.forEach((text, index) => {
    end += Buffer.byteLength(text) + 1;
    ends[index] = end;
  });
  const lines = new Lines({
    bytes,
    offset,
    ends,
    count: texts.length,
    kind: "whole",
    delimiterBytes: 1,
    readAtMs: 0,
    host: "test",
  });
  return BatchOf.ofLines(fileOrigin(source, key, 0, `/${key}`), lines);
}

/**
 * A replayable source over texts in memory: `files` maps a file key to all its lines. It starts where the positions say,
 * sends `linesPerBatch` lines at a time, round robin over the files, and ends.
 */
export function memorySource(files: ReadonlyMap<string, readonly string[]>, linesPerBatch = 2): SourceDefinition {
  return defineSource({
    type: "memory",
    summary: "Lines from memory, for tests.",
    options: z.unknown(),
    replay: "replayable",
    async open(_options, context: SourceContext): Promise<Source> {
      const { sender, receiver } = context.channel();
      return {
        output: receiver,
        async run({ signal }) {
          using _closing = sender;
          const pending = [...files].map(([key, texts]) => ({ key, texts, next: 0, offset: 0 }));
          for (const file of pending) {
            const start = context.positions.startOf(file.key);
            while (file.offset < start) {
              file.offset += Buffer.byteLength(file.texts[file.next]!) + 1;
              file.next += 1;
            }
          }
          while (pending.some((file) => file.next < file.texts.length) && !signal.aborted) {
            for (const file of pending) {
              const texts = file.texts.slice(file.next, file.next + linesPerBatch);
              if (texts.length === 0) continue;
              const batch = linesBatch(context.name, file.key, file.offset, texts);
              await sender.send(batch, { signal });
              file.next += texts.length;
              file.offset += batch.byteLength;
            }
          }
        },
        async [Symbol.asyncDispose]() {},
      };
    },
  });
}

/** What a `memorySink` did, and its switches. */
export interface MemoryTarget {
  /** Messages in the order of delivery; with marks: only what would survive is `texts.slice(0, mark)`. */
  texts: string[];
  /** Asked before each write; undefined: take it. */
  answer?: (batch: Batch, texts: readonly string[]) => Outcome | undefined | Promise<Outcome | undefined>;
  /** Asked at each barrier of a sink with marks; throwing fails it. */
  onPrepare?: () => void | Promise<void>;
  /** The committed length, as the sink was last opened with or told. */
  mark: number;
}

/** A sink into memory. With `marks` it behaves like a file: written first, durable at the barrier, cut back at open. */
export function memorySink(
  target: MemoryTarget,
  options: { marks?: boolean; concurrency?: number } = {},
): SinkDefinition {
  return defineSink({
    type: "memory",
    summary: "Memory, for tests.",
    options: z.unknown(),
    guarantee: options.marks ? "exactly_once" : "at_least_once",
    concurrency: options.concurrency ?? 1,
    async open(_options, context: SinkContext): Promise<Sink> {
      let rewinds = 0;
      const sink: Sink = {
        async write(batch) {
          const before = rewinds;
          const texts = batch.records.map((record) => String(record.event["message"]));
          const answer = await target.answer?.(batch, texts);
          if (answer !== undefined) return answer;
          if (rewinds !== before) return { kind: "retry", reason: "went back meanwhile" };
          target.texts.push(...texts);
          return { kind: "delivered" };
        },
        async [Symbol.asyncDispose]() {},
      };
      if (!options.marks) return sink;
      target.mark = Number(context.marks.get("length") ?? 0);
      target.texts.length = target.mark;
      let prepared = target.mark;
      sink.prepare = async (): Promise<Marks> => {
        const length = target.texts.length;
        try {
          await target.onPrepare?.();
        } catch (error) {
          target.texts.length = target.mark;
          rewinds += 1;
          throw error;
        }
        prepared = length;
        return { length };
      };
      sink.committed = () => {
        target.mark = prepared;
      };
      return sink;
    },
  });
}
