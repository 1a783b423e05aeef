import { toError } from "../errors.ts";

/**
 * What an object has opened, mapped and attached, in the order of its making. Released in reverse order, each exactly
 * once, also where one of them fails to be released; and also after a making that failed half-way:
 *
 *   const owned = new Ownership();
 *   return owned.orRelease(() => { const fd = owned.own(open(), close); ... return new Thing(owned); });
 */
export class Ownership implements Disposable {
  readonly #releases: (() => void)[] = [];

  /** True until released. */
  #isLive = true;

  get isLive(): boolean {
    return this.#isLive;
  }

  /** Takes `thing` over; `release` is called once. */
  own<T>(thing: T, release: (thing: T) => void): T {
    this.#releases.push(() => release(thing));
    return thing;
  }

  /** Runs `make`; if it throws, everything owned so far is released before the error goes on. */
  orRelease<T>(make: () => T): T {
    try {
      return make();
    } catch (error) {
      try {
        this.release();
      } catch {
        // Why it could not be made is what counts; what went wrong behind it would only hide that.
      }
      throw error;
    }
  }

  /** @throws the first error of a release, after all of them were tried */
  release(): void {
    this.#isLive = false;
    let first: Error | undefined;
    for (let release = this.#releases.pop(); release !== undefined; release = this.#releases.pop()) {
      try {
        release();
      } catch (error) {
        first ??= toError(error);
      }
    }
    if (first !== undefined) throw first;
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
