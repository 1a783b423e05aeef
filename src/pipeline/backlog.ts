import type { Batch, Memory } from "../record/batch.ts";
import { DataRecord } from "../record/data-record.ts";
import { Lines } from "../record/lines.ts";
import type { Origin } from "../record/origin.ts";
import { PackedEvents } from "../record/packed-events.ts";
import { ByteArena } from "./byte-arena.ts";

/** What an idle backlog keeps of the memory that it once needed, bytes. */
const KEPT_FREE_BYTES = 4 * 1024 * 1024;
/** Having dropped, a sink gets records again once it is behind by no more than this part of its limit. */
const RESUME_SHARE = 0.5;

/** The input of a sink that is not required has room for so many batches, or for all that it may be behind with batches of ... */
const MAX_BATCHES = 65_536;
/** ... so many bytes; where more of them are smaller, it drops before it is `max_lag_bytes` behind. */
const SMALL_BATCH_BYTES = 256;
/** What a batch takes beside its bytes. */
const BATCH_BYTES = 1024;

/** Batches that may wait for a sink which may be so many bytes behind. */
export function batchesBehind(maxLagBytes: number): number {
  return Math.min(MAX_BATCHES, Math.ceil(maxLagBytes / SMALL_BATCH_BYTES));
}

/** The most memory that its copies take: source bytes, and what transforms made of them as JSON. */
export function bytesOfBacklog(maxLagBytes: number): number {
  return maxLagBytes * 2 + batchesBehind(maxLagBytes) * BATCH_BYTES;
}

/**
 * How far a sink is behind what was read: bytes that it was handed and that have not ended there (of one that keeps marks:
 * that no commit covers).
 *
 * A required sink has no limit: its channel fills, and holds its sources back. One with `required = false` holds nobody
 * back, so that nothing of it may lie where others need room: it gets copies, in memory of its own, and with the limit
 * reached what comes is dropped.
 *
 *     0 ........ half ............. limit
 *     |---------- takes ------------->|  over it: drops, until it is down to the half
 *     |<- takes --|<---- drops -------|  one long gap in its positions instead of hundreds of short ones
 */
export class Backlog {
  /** Bytes; undefined: the sink is required. A reload may change it. */
  limitBytes: number | undefined;
  #heldBytes = 0;
  #isDropping = false;
  readonly #arena = new ByteArena(KEPT_FREE_BYTES);
  readonly #onHalfFull: () => void;
  readonly #quiet = new WeakMap<Origin, Origin>();

  /** `onHalfFull`: what the sink has written and no commit covers is to be committed now. */
  constructor(limitBytes: number | undefined, onHalfFull: () => void) {
    this.limitBytes = limitBytes;
    this.#onHalfFull = onHalfFull;
  }

  get mayDrop(): boolean {
    return this.limitBytes !== undefined;
  }

  /** Bytes that it is behind, while it may drop. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** False: what comes now is to be dropped. A batch above the limit is taken where there is no other. */
  hasRoom(bytes: number): boolean {
    const limit = this.limitBytes;
    if (limit === undefined) return true;
    if (this.#heldBytes > limit * RESUME_SHARE) this.#onHalfFull();
    else this.#isDropping = false;
    if (this.#heldBytes > 0 && this.#heldBytes + bytes > limit) this.#isDropping = true;
    return !this.#isDropping;
  }

  /** A copy of the batch that holds nothing of anybody else's memory; takes over the caller's reference. */
  take(batch: Batch): Batch {
    const { lines } = batch;
    const origin = this.#originOf(batch);
    const copy = lines === undefined ? this.#copyOfRecords(batch, origin) : this.#copyOfLines(batch, lines, origin);
    batch.memory.release();
    return copy;
  }

  /** Who waits upstream for an acknowledgement must not wait for a sink that is not required. */
  #originOf({ origin, ranges }: Batch): Origin {
    if (origin.onSettled === undefined) return origin;
    origin.onSettled(ranges);
    let quiet = this.#quiet.get(origin);
    if (quiet === undefined) {
      const { source, key, kind, recordIdPrefix, file } = origin;
      quiet = { source, key, kind, recordIdPrefix, file };
      this.#quiet.set(origin, quiet);
    }
    return quiet;
  }

  #copyOfLines(batch: Batch, lines: Lines, origin: Origin): Batch {
    const memory = this.#memory(batch.byteLength);
    return batch.copied({ origin, memory, lines: this.#copyOfBytes(lines, memory) });
  }

  #copyOfRecords(batch: Batch, origin: Origin): Batch {
    const { records } = batch;
    const json = records.some(({ isUntouched }) => !isUntouched) ? jsonOf(batch) : undefined;
    const memory = this.#memory(Math.max(batch.byteLength, json?.length ?? 0));
    const copies = new Map<Lines, Lines>();
    const piecesOf = (pieces: DataRecord["pieces"]) => {
      if (pieces.form !== "lines") return pieces;
      const copy = copies.get(pieces) ?? this.#copyOfBytes(pieces, memory);
      copies.set(pieces, copy);
      return copy;
    };
    const moved = records.map((record) => {
      const isPacked = json !== undefined || record.isUntouched;
      return new DataRecord(
        origin,
        piecesOf(record.pieces),
        record.index,
        isPacked ? undefined : record.event,
        record.split,
      );
    });
    if (json === undefined) return batch.copied({ origin, memory, records: moved });
    const kept = memory.keepJson(json);
    return batch.copied({ origin, memory, packed: { events: PackedEvents.of(moved, kept), json: kept } });
  }

  #copyOfBytes(lines: Lines, memory: HeldMemory): Lines {
    return new Lines({ ...lines, bytes: memory.keepJson(lines.bytes), ends: lines.ends.slice(0, lines.count) });
  }

  #memory(bytes: number): HeldMemory {
    this.#heldBytes += bytes;
    return new HeldMemory(bytes, this.#arena, () => {
      this.#heldBytes -= bytes;
    });
  }
}

/** One JSON line for each record; undefined where an event is none (a function of a configuration may make anything). */
function jsonOf(batch: Batch): Buffer | undefined {
  if (batch.json !== undefined) return batch.json;
  try {
    return Buffer.from(batch.records.map(({ event }) => `${JSON.stringify(event)}\n`).join(""));
  } catch {
    return undefined;
  }
}

/** Memory of one batch in a backlog. */
class HeldMemory implements Memory {
  readonly byteLength: number;
  readonly #arena: ByteArena;
  readonly #onFree: () => void;
  readonly #pieces: (() => void)[] = [];
  #references = 1;

  constructor(byteLength: number, arena: ByteArena, onFree: () => void) {
    this.byteLength = byteLength;
    this.#arena = arena;
    this.#onFree = onFree;
  }

  retain(): void {
    this.#references += 1;
  }

  release(): void {
    this.#references -= 1;
    if (this.#references > 0) return;
    for (const free of this.#pieces.splice(0)) free();
    this.#onFree();
  }

  keepJson(bytes: Buffer): Buffer {
    if (bytes.length === 0) return Buffer.alloc(0);
    const kept = this.#arena.keep(bytes);
    this.#pieces.push(kept.release);
    return kept.bytes;
  }
}
