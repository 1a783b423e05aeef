import { type Encoding, encodeBatch, encodeRecords } from "../codec/encode.ts";
import type { Batch, DataRecord } from "../record/index.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { SinkContext } from "../stage/index.ts";
import type { PathTemplate } from "./template.ts";

/** The bytes that a batch brings to one output. */
export interface Part {
  /** Below the template's root; empty for a path without placeholders. */
  readonly names: readonly BytePath[];
  /** To be written back to back. */
  readonly buffers: readonly Buffer[];
  readonly byteLength: number;
}

/** Where records go. */
export type OutputNames = Pick<PathTemplate, "root" | "fixed" | "isSameForLines" | "namesFor">;

/** Cuts batches into the parts that each output gets, encoded; says now and then how much text had to be replaced. */
export class RecordRouting {
  readonly #template: OutputNames;
  readonly #encoding: Encoding;
  readonly #context: Pick<SinkContext, "log" | "clock">;
  readonly #tally = { replacedRecords: 0 };
  #toldAtMs = Number.NEGATIVE_INFINITY;

  constructor(template: OutputNames, encoding: Encoding, context: Pick<SinkContext, "log" | "clock">) {
    this.#template = template;
    this.#encoding = encoding;
    this.#context = context;
  }

  /** In the order of their first records, without those that bring no bytes. */
  split(batch: Batch): Part[] {
    const parts = this.#split(batch).filter((part) => part.byteLength > 0);
    if (this.#tally.replacedRecords > 0 && this.#context.clock.monotonic() - this.#toldAtMs >= TELL_MS) this.tell();
    return parts;
  }

  /** Says how many records were changed since it was last said. */
  tell(): void {
    const { replacedRecords } = this.#tally;
    if (replacedRecords === 0) return;
    this.#context.log.warn(
      { records: replacedRecords },
      'records held bytes that are no valid text; these were replaced (encoding = "raw" keeps them)',
    );
    this.#tally.replacedRecords = 0;
    this.#toldAtMs = this.#context.clock.monotonic();
  }

  #split(batch: Batch): Part[] {
    if (this.#template.fixed !== undefined) return [part([], encodeBatch(batch, this.#encoding, this.#tally))];
    if (batch.count === 0) return [];
    if (batch.lines !== undefined && this.#template.isSameForLines) {
      return [part(this.#template.namesFor(batch.records[0]!), encodeBatch(batch, this.#encoding, this.#tally))];
    }
    const groups = new Map<string, { names: readonly BytePath[]; records: DataRecord[] }>();
    for (const record of batch.records) {
      const names = this.#template.namesFor(record);
      const key = names.join("/");
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { names, records: [record] });
      else group.records.push(record);
    }
    return [...groups.values()].map(({ names, records }) =>
      part(names, encodeRecords(records, this.#encoding, this.#tally)),
    );
  }
}

const TELL_MS = 60_000;

function part(names: readonly BytePath[], buffers: readonly Buffer[]): Part {
  return { names, buffers, byteLength: buffers.reduce((sum, buffer) => sum + buffer.length, 0) };
}
