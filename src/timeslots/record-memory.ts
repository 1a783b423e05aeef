import { CGROUP } from "./shared-layout.ts";

/** The words and bytes of the ring; `RingReader` is one. */
export interface RecordMemory {
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;
}

const TWO_32 = 2 ** 32;

/** 64 bits as a number: sums stay far below 2^53. */
export function wideOf(words: Uint32Array, word: number): number {
  return words[word]! + words[word + 1]! * TWO_32;
}

export function idOf(words: Uint32Array, word: number): bigint {
  return BigInt(words[word]!) | (BigInt(words[word + 1]!) << 32n);
}

/** A text that a zero byte ends. */
export function textOf(bytes: Uint8Array, from: number, limit: number): string {
  const end = bytes.indexOf(0, from);
  // A copy: the decoder would take the memory of the ring for its own, and text outlives it.
  return Buffer.from(bytes.slice(from, end === -1 ? limit : Math.min(end, limit))).toString("utf8");
}

/** The names of a cgroup and those above it, as a path. */
export function pathOf(bytes: Uint8Array, at: number): string {
  const names: string[] = [];
  for (let level = 0; level < CGROUP.levels; level += 1) {
    const from = at + level * CGROUP.nameBytes;
    const name = textOf(bytes, from, from + CGROUP.nameBytes);
    if (name === "") return `/${names.join("/")}`;
    names.unshift(name);
  }
  // Deeper than what the kernel was asked for.
  return `.../${names.join("/")}`;
}
