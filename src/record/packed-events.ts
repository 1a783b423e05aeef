import { DataRecord, type EventFields } from "./data-record.ts";

const NEWLINE = 0x0a;

/**
 * Records whose events stand as JSON, one line each, and nowhere else: what is left of a batch that was written and may
 * have to be written again. An event is some ten objects for the garbage collector to follow, a line is none.
 */
export class PackedEvents {
  readonly #json: Buffer;
  readonly #origin: DataRecord["origin"];
  /** What the records are pieces of; nearly always one for all. */
  readonly #pieces: readonly DataRecord["pieces"][];
  /** Undefined: all of the first. */
  readonly #pieceOf: Uint32Array | undefined;
  readonly #indexes: Uint32Array;
  readonly #splits: Float64Array;

  /** @param fields `json`: one line for each of the records; `pieceOf` an index of `pieces`, 0 where it is left out */
  constructor(fields: {
    readonly json: Buffer;
    readonly origin: DataRecord["origin"];
    readonly pieces: readonly DataRecord["pieces"][];
    readonly pieceOf?: Uint32Array;
    readonly indexes: Uint32Array;
    readonly splits: Float64Array;
  }) {
    this.#json = fields.json;
    this.#origin = fields.origin;
    this.#pieces = fields.pieces;
    this.#pieceOf = fields.pieceOf;
    this.#indexes = fields.indexes;
    this.#splits = fields.splits;
  }

  /** @param json one line for each of the records, of which there is one at least */
  static of(records: readonly DataRecord[], json: Buffer): PackedEvents {
    const count = records.length;
    const pieces: DataRecord["pieces"][] = [];
    const pieceOf = new Uint32Array(count);
    const indexes = new Uint32Array(count);
    const splits = new Float64Array(count);
    for (let at = 0; at < count; at += 1) {
      const record = records[at]!;
      if (pieces.at(-1) !== record.pieces) pieces.push(record.pieces);
      pieceOf[at] = pieces.length - 1;
      indexes[at] = record.index;
      splits[at] = record.split;
    }
    return new PackedEvents({ json, origin: records[0]!.origin, pieces, pieceOf, indexes, splits });
  }

  get count(): number {
    return this.#indexes.length;
  }

  /** The records again, with events that say the same. */
  records(): DataRecord[] {
    let start = 0;
    return Array.from(this.#indexes, (index, at) => {
      const end = this.#json.indexOf(NEWLINE, start);
      const event = JSON.parse(this.#json.toString("utf8", start, end)) as EventFields;
      start = end + 1;
      return new DataRecord(this.#origin, this.#pieces[this.#pieceOf?.[at] ?? 0]!, index, event, this.#splits[at]);
    });
  }
}
