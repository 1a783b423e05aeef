import type { Lease, MemoryBudget } from "../runtime/memory-budget.ts";

/** Beside its body, what a row costs while it is in flight: its columns and its event. A guess, on the safe side. */
const ROW_BYTES = 512;

export interface LeasedBodies {
  /** Within `memory`, in the order of the texts. */
  readonly bodies: readonly Buffer[];
  /** Of all bodies together. */
  readonly bytes: number;
  readonly memory: Lease;
}

/** Rows that were read, as bodies in memory of the in-flight budget; undefined if `signal` aborts before it has room. */
export async function leaseBodies(
  texts: readonly string[],
  budget: MemoryBudget,
  signal: AbortSignal,
): Promise<LeasedBodies | undefined> {
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  const memory = await budget.lease(bytes + texts.length * ROW_BYTES, { signal });
  if (memory === undefined) return undefined;
  let at = 0;
  const bodies = texts.map((text) => {
    const start = at;
    at += memory.buffer.write(text, start);
    return memory.buffer.subarray(start, at);
  });
  return { bodies, bytes, memory };
}
