/**
 * Up to where no row can come any more.
 *
 * Cursor values are handed out when a row is inserted and seen when its transaction commits, in another order: 7 may be
 * there while 6 still waits for its COMMIT, or will never come, since it was rolled back. Who reads on behind 7 and keeps
 * only the highest value has lost 6.
 *
 * ```
 *   note:  highest value seen = 107, next transaction id = 9001        (one snapshot)
 *   later: lowest running transaction id >= 9001  -> whoever drew a value up to 107 before that has committed or is gone
 *          and settle_ms have passed              -> also who had drawn it and had no transaction id yet
 *          => everything up to 107 is final
 * ```
 *
 * A transaction that runs for hours holds this back for hours, as it might still commit a row; rows that follow each other
 * without a gap are read at once nevertheless. Values drawn in stock (a sequence with CACHE, a client that draws blocks) and
 * used more than `settle_ms` later are beyond this.
 */
export class Horizon {
  readonly #settleMs: number;
  /** Everything up to here is final. */
  #safe = -1;
  /** Under observation; the second takes over when the first is through. */
  #first: Note | undefined;
  #second: Note | undefined;

  constructor(settleMs: number) {
    this.#settleMs = settleMs;
  }

  get safe(): number {
    return this.#safe;
  }

  /** What one snapshot says: the highest value, and transaction ids as `pg_current_snapshot` has them. */
  observe(highest: number, snapshot: { readonly xmin: number; readonly xmax: number }, nowMs: number): void {
    while (
      this.#first !== undefined &&
      snapshot.xmin >= this.#first.xmax &&
      nowMs - this.#first.atMs >= this.#settleMs
    ) {
      this.#safe = Math.max(this.#safe, this.#first.highest);
      this.#first = this.#second;
      this.#second = undefined;
    }
    if (highest <= ((this.#second ?? this.#first)?.highest ?? this.#safe)) return;
    const note = { highest, xmax: snapshot.xmax, atMs: nowMs };
    if (this.#first === undefined) this.#first = note;
    // The latest one that is not under observation yet: with it the wait of each value is at most twice the least.
    else this.#second ??= note;
  }

  /** How long the oldest observation has been waiting for transactions to end, milliseconds. */
  waitedMs(nowMs: number): number {
    return this.#first === undefined ? 0 : nowMs - this.#first.atMs;
  }
}

interface Note {
  readonly highest: number;
  readonly xmax: number;
  readonly atMs: number;
}
