/** Somebody who waits until all is sent that a file held when they asked. */
export class EndMark {
  readonly #onReached: () => void;
  /** `unset`: the size at the next look is the end. */
  #end: number | "unset" | undefined;

  constructor(onReached: () => void) {
    this.#onReached = onReached;
  }

  get isSet(): boolean {
    return this.#end !== undefined;
  }

  set(): void {
    this.#end = "unset";
  }

  /** The file was looked at. */
  saw(size: number): void {
    if (this.#end === "unset") this.#end = size;
  }

  /** Everything before `offset` has been sent: a file that grows for ever has an end as of then too. */
  passed(offset: number): void {
    if (typeof this.#end === "number" && offset >= this.#end) this.#reached();
  }

  /** Everything that is there has been sent: whatever was there then is, also where the file became shorter since. */
  passedAll(): void {
    if (typeof this.#end === "number") this.#reached();
  }

  #reached(): void {
    this.#end = undefined;
    this.#onReached();
  }
}
