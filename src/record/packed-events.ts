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
  readonly #pieceOf: Uint32Array;
  readonly #indexes: Uint32Array;
  readonly #splits: Float64Array;

  /** @param json one line for each of the records */
  constructor(records: readonly DataRecord[], json: Buffer) {
    const pieces: DataRecord["pieces"][] = [];
    this.#json = json;
    this.#origin = records[0]!.origin;
    this.#pieces = pieces;
    this.#pieceOf = Uint32Array.from(records, (record) => {
      if (pieces.at(-1) !== record.pieces) pieces.push(record.pieces);
      return pieces.length - 1;
    });
    this.#indexes = Uint32Array.from(records, ({ index }) => index);
    this.#splits = Float64Array.from(records, ({ split }) => split);
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
      return new DataRecord(this.#origin, this.#pieces[this.#pieceOf[at]!]!, index, event, this.#splits[at]);
    });
  }
}
