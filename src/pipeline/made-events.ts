import type { Batch, Memory } from "../record/batch.ts";
import { untilWoken } from "../runtime/until-woken.ts";
import { ByteArena } from "./byte-arena.ts";

/**
 * What an event costs beside its bytes, and how often its bytes stand in memory: measured with `json` before a sink that
 * takes nothing (362 bytes an event for lines of 14 bytes, 635 for lines of 105).
 */
const EVENT_BYTES = 400;
const TIMES_ITS_BYTES = 3;

/**
 * Events that one transform may have made and that no sink has written yet, in estimated bytes. Few, so that they die
 * young: events that pile up before a sink are copied by each collection, and gain nothing.
 */
const MAX_EVENT_BYTES = 1024 * 1024;

/**
 * Those, and what sinks keep of them as JSON until a commit. The in-flight budget counts the bytes that sources read, but
 * an event is an object of many times its bytes (product contract, P4).
 */
const MAX_MADE_BYTES = 8 * 1024 * 1024;

/** For each thread that makes more of them at the same time. */
const MAX_MADE_BYTES_OF_THREAD = 8 * 1024 * 1024;

/**
 * The memory of the events that one transform has made: taken before it works, given back when their batch is.
 *
 *     charge --> events --keepJson--> events + JSON --packed--> JSON alone --> given back at the commit
 *                   |                                               (of sinks that write JSON and keep marks)
 *                   `--keep--> the same events, kept for a commit (of those that write something else)
 */
export class MadeEvents {
  #eventBytes = 0;
  /** Of what is kept until a commit: as JSON, or, of sinks that write no JSON, as the events themselves. */
  #keptBytes = 0;
  readonly #maxBytes: number;
  /** It keeps as much room as there may be JSON. */
  readonly #arena: ByteArena;
  #wakers: (() => void)[] = [];

  constructor({ threads }: { readonly threads: number } = { threads: 0 }) {
    this.#maxBytes = MAX_MADE_BYTES + threads * MAX_MADE_BYTES_OF_THREAD;
    this.#arena = new ByteArena(this.#maxBytes);
  }

  /** Estimated bytes of what is in flight. */
  get bytes(): number {
    return this.#eventBytes + this.#keptBytes;
  }

  /**
   * Resolves when there is room for what `batch` will become, or `abort` aborts; a batch larger than all goes alone.
   * `onWait` is called where it waits for a commit: who holds something back until then is to make it now.
   */
  async room(batch: Batch, abort: AbortSignal, onWait: () => void): Promise<void> {
    const needed = estimate(batch.count, batch.byteLength);
    while (!abort.aborted && !this.#fits(needed)) {
      if (this.#keptBytes > 0 && this.bytes + needed > this.#maxBytes) onWait();
      await untilWoken(abort, (wake) => this.#wakers.push(wake));
    }
  }

  #fits(bytes: number): boolean {
    if (this.#eventBytes > 0 && this.#eventBytes + bytes > MAX_EVENT_BYTES) return false;
    return this.bytes === 0 || this.bytes + bytes <= this.#maxBytes;
  }

  /** Charges for `events` events made of `batch`, until the memory that it returns is given back. Takes over one reference. */
  charge(batch: Batch, events: number): Memory {
    const bytes = estimate(Math.max(events, batch.count), batch.byteLength);
    this.#eventBytes += bytes;
    return new EventMemory(batch.memory, bytes, this.#account, this.#arena);
  }

  /** A copy of what another thread has made of `batch`, and memory that it lives in. Takes over one reference. */
  keepMade(batch: Batch, json: Buffer): { readonly memory: Memory; readonly json: Buffer } {
    const kept = new KeptJson(this.#arena.keep(json), this.#account);
    const memory = new JsonMemory(batch.memory, kept);
    kept.release();
    return { memory, json: kept.bytes };
  }

  readonly #account: Account = (eventBytes, keptBytes) => {
    this.#eventBytes += eventBytes;
    this.#keptBytes += keptBytes;
    for (const wake of this.#wakers.splice(0)) wake();
  };
}

/** Counts what changed, in bytes of events and of what is kept for a commit. */
type Account = (eventBytes: number, keptBytes: number) => void;

/** Memory of a batch, with the events that were made of it and the JSON that they became. */
class EventMemory implements Memory {
  readonly #inner: Memory;
  readonly #bytes: number;
  readonly #account: Account;
  readonly #arena: ByteArena;
  #references = 1;
  #isKept = false;
  #json: KeptJson[] = [];

  constructor(inner: Memory, bytes: number, account: Account, arena: ByteArena) {
    this.#inner = inner;
    this.#bytes = bytes;
    this.#account = account;
    this.#arena = arena;
  }

  get byteLength(): number {
    return this.#inner.byteLength;
  }

  retain(): void {
    this.#references += 1;
  }

  release(): void {
    this.#references -= 1;
    if (this.#references > 0) return;
    this.#account(this.#isKept ? 0 : -this.#bytes, this.#isKept ? -this.#bytes : 0);
    for (const json of this.#json) json.release();
    this.#inner.release();
  }

  keep(): void {
    this.#inner.keep?.();
    if (this.#isKept) return;
    this.#isKept = true;
    this.#account(-this.#bytes, this.#bytes);
  }

  /** Several times, where the batch is bisected. */
  keepJson(json: Buffer): Buffer {
    const inner = this.#inner.keepJson?.(json);
    if (inner !== undefined) return inner;
    const kept = new KeptJson(this.#arena.keep(json), this.#account);
    this.#json.push(kept);
    return kept.bytes;
  }

  packed(json: Buffer): Memory | undefined {
    const inner = this.#inner.packed?.(json);
    if (inner !== undefined) return inner;
    const kept = this.#json.find(({ bytes }) => bytes === json);
    if (kept === undefined) return undefined;
    this.#inner.retain();
    return new JsonMemory(this.#inner, kept);
  }
}

/** JSON in the arena, counted by reference. */
class KeptJson {
  readonly bytes: Buffer;
  readonly #free: () => void;
  readonly #account: Account;
  #references = 1;

  constructor({ bytes, release }: { readonly bytes: Buffer; readonly release: () => void }, account: Account) {
    this.bytes = bytes;
    this.#free = release;
    this.#account = account;
    account(0, bytes.length);
  }

  retain(): this {
    this.#references += 1;
    return this;
  }

  release(): void {
    this.#references -= 1;
    if (this.#references > 0) return;
    this.#free();
    this.#account(0, -this.bytes.length);
  }
}

/** Memory of a batch whose events are gone: its source bytes and the JSON. */
class JsonMemory implements Memory {
  readonly #inner: Memory;
  readonly #json: KeptJson;
  #references = 1;

  /** Takes over a reference of `inner`. */
  constructor(inner: Memory, json: KeptJson) {
    this.#inner = inner;
    this.#json = json.retain();
  }

  get byteLength(): number {
    return this.#inner.byteLength;
  }

  retain(): void {
    this.#references += 1;
  }

  release(): void {
    this.#references -= 1;
    if (this.#references > 0) return;
    this.#json.release();
    this.#inner.release();
  }

  packed(): Memory {
    this.#inner.retain();
    return new JsonMemory(this.#inner, this.#json);
  }
}

function estimate(events: number, bytes: number): number {
  return events * EVENT_BYTES + bytes * TIMES_ITS_BYTES;
}
