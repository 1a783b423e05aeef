import type { Random } from "../runtime/random.ts";

/**
 * Randomness that replays: the same seed gives the same numbers on every machine. xoshiro128** (Blackman and Vigna,
 * "Scrambled linear pseudorandom number generators", 2021), its state filled by a splitmix32 of the seed. Good enough to
 * choose schedules, and not for secrets.
 */
export class SeededRandom implements Random {
  readonly seed: number;
  readonly #state = new Uint32Array(4);

  /** `seed` is any integer; its low 32 bits count. */
  constructor(seed: number) {
    this.seed = seed >>> 0;
    let mixed = this.seed;
    for (let index = 0; index < 4; index += 1) {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      let word = mixed;
      word = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
      word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
      this.#state[index] = word ^ (word >>> 15);
    }
  }

  next(): number {
    return this.uint32() / 2 ** 32;
  }

  hex(bytes: number): string {
    let text = "";
    for (let index = 0; index < bytes; index += 1) text += (this.uint32() >>> 24).toString(16).padStart(2, "0");
    return text;
  }

  /** A whole number from 0 to 2^32 - 1. */
  uint32(): number {
    const state = this.#state;
    const result = Math.imul(rotateLeft(Math.imul(state[1]!, 5), 7), 9) >>> 0;
    const shifted = state[1]! << 9;
    state[2]! ^= state[0]!;
    state[3]! ^= state[1]!;
    state[1]! ^= state[2]!;
    state[0]! ^= state[3]!;
    state[2]! ^= shifted;
    state[3] = rotateLeft(state[3]!, 11);
    return result;
  }

  /** A whole number, both ends included. */
  int(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return probability > 0 && this.next() < probability;
  }

  /** One of `choices`, which must not be empty. */
  pick<T>(choices: readonly T[]): T {
    if (choices.length === 0) throw new RangeError("there is nothing to pick from");
    return choices[this.int(0, choices.length - 1)]!;
  }

  /** One of the keys of `weights`, as often as its weight says. */
  weighted<Choice extends string>(weights: { readonly [choice in Choice]: number }): Choice {
    const choices = Object.keys(weights) as Choice[];
    let left = this.next() * choices.reduce((sum, choice) => sum + weights[choice], 0);
    for (const choice of choices) {
      left -= weights[choice];
      if (left < 0) return choice;
    }
    return choices.findLast((choice) => weights[choice] > 0)!;
  }

  /** A shuffled copy (Fisher and Yates). */
  shuffle<T>(values: readonly T[]): T[] {
    const shuffled = [...values];
    for (let index = shuffled.length - 1; index > 0; index -= 1) {
      const other = this.int(0, index);
      [shuffled[index], shuffled[other]] = [shuffled[other]!, shuffled[index]!];
    }
    return shuffled;
  }

  /** An independent stream that starts here: what one part draws does not move what another part gets. */
  fork(): SeededRandom {
    return new SeededRandom(this.uint32());
  }
}

function rotateLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
