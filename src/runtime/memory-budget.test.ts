import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Lease, MemoryBudget } from "./memory-budget.ts";

/** What a promise came to, without waiting longer than the microtasks that are due. */
async function stateOf(work: Promise<Lease | undefined>): Promise<"waiting" | "granted" | "refused"> {
  let state: "waiting" | "granted" | "refused" = "waiting";
  work.then((lease) => {
    state = lease === undefined ? "refused" : "granted";
  });
  await new Promise((resolve) => setImmediate(resolve));
  return state;
}

describe("MemoryBudget", () => {
  it("grants what fits, and counts it until its last reference is gone", async () => {
    const budget = new MemoryBudget(100, 16);
    const lease = (await budget.lease(60))!;
    expect(lease.buffer.length).toBeGreaterThanOrEqual(60);
    expect(lease.byteLength).toBe(60);
    lease.retain();
    lease.release();
    expect(budget.usedBytes).toBe(60);
    lease.release();
    expect(budget.usedBytes).toBe(0);
  });

  it("lets the next one wait until there is room", async () => {
    const budget = new MemoryBudget(100, 16);
    const first = (await budget.lease(60))!;
    const second = budget.lease(41);
    expect(await stateOf(second)).toBe("waiting");
    first.release();
    expect(await stateOf(second)).toBe("granted");
    expect(budget.usedBytes).toBe(41);
  });

  it("serves in order: a small request does not overtake a large one", async () => {
    const budget = new MemoryBudget(100, 16);
    const first = (await budget.lease(60))!;
    const large = budget.lease(80);
    const small = budget.lease(1);
    expect(await stateOf(small)).toBe("waiting");
    first.release();
    expect(await stateOf(large)).toBe("granted");
    expect(await stateOf(small)).toBe("granted");
  });

  it("grants a request above the whole budget once nothing else is out, and nothing beside it", async () => {
    const budget = new MemoryBudget(100, 16);
    const first = (await budget.lease(1))!;
    const oversize = budget.lease(500);
    const next = budget.lease(1);
    expect(await stateOf(oversize)).toBe("waiting");
    first.release();
    expect(await stateOf(oversize)).toBe("granted");
    expect((await oversize)!.buffer.length).toBe(500);
    expect(await stateOf(next)).toBe("waiting");
    (await oversize)!.release();
    expect(await stateOf(next)).toBe("granted");
  });

  it("gives nothing to a request that was aborted, before or while it waits", async () => {
    const budget = new MemoryBudget(100, 16);
    expect(await budget.lease(1, { signal: AbortSignal.abort() })).toBeUndefined();
    const first = (await budget.lease(100))!;
    const controller = new AbortController();
    const waiting = budget.lease(50, { signal: controller.signal });
    expect(await stateOf(waiting)).toBe("waiting");
    controller.abort();
    expect(await stateOf(waiting)).toBe("refused");
    first.release();
    expect(budget.usedBytes).toBe(0);
  });

  it("lets those behind an aborted request have their turn at once", async () => {
    const budget = new MemoryBudget(100, 16);
    const first = (await budget.lease(60))!;
    const controller = new AbortController();
    const large = budget.lease(80, { signal: controller.signal });
    const small = budget.lease(40);
    expect(await stateOf(small)).toBe("waiting");
    controller.abort();
    expect(await stateOf(large)).toBe("refused");
    expect(await stateOf(small)).toBe("granted");
    first.release();
  });

  it("keeps a lease that was granted before the abort", async () => {
    const budget = new MemoryBudget(100, 16);
    const controller = new AbortController();
    const lease = await budget.lease(16, { signal: controller.signal });
    controller.abort();
    expect(lease).toBeDefined();
    expect(budget.usedBytes).toBe(16);
  });

  it("counts a whole chunk for a read that is given one", async () => {
    const budget = new MemoryBudget(100, 16);
    const lease = (await budget.lease(10))!;
    expect([lease.buffer.length, budget.usedBytes]).toEqual([16, 16]);
    lease.release();
    expect(budget.usedBytes).toBe(0);
  });

  it("refuses a second release, and a retain after the release", async () => {
    const budget = new MemoryBudget(100, 16);
    const lease = (await budget.lease(10))!;
    lease.release();
    expect(() => lease.release()).toThrow("released twice");
    expect(() => lease.retain()).toThrow("after its release");
    expect(budget.usedBytes).toBe(0);
  });

  it("uses chunks again, and never hands one out twice at a time", async () => {
    const budget = new MemoryBudget(64, 16);
    const first = (await budget.lease(16))!;
    const second = (await budget.lease(16))!;
    expect(second.buffer).not.toBe(first.buffer);
    first.release();
    const third = (await budget.lease(16))!;
    expect(third.buffer).toBe(first.buffer);
    second.release();
    third.release();
  });

  it("uses larger buffers again too, as long as pool and leases fit the budget together", async () => {
    const budget = new MemoryBudget(100, 16);
    const first = (await budget.lease(40))!;
    first.release();
    const second = (await budget.lease(40))!;
    expect(second.buffer).toBe(first.buffer);
    second.release();
    // Beside 70 there is no room for the 40 that nobody uses.
    (await budget.lease(70))!.release();
    const third = (await budget.lease(40))!;
    expect(third.buffer).not.toBe(first.buffer);
    third.release();
  });

  it("never has more out than its total, save for one oversize lease alone, and ends with everyone served", async () => {
    const actions = fc.array(
      fc.oneof(
        fc.record({ do: fc.constant("lease" as const), bytes: fc.integer({ min: 1, max: 40 }) }),
        fc.record({ do: fc.constant("release" as const), which: fc.nat() }),
        fc.record({ do: fc.constant("abort" as const), which: fc.nat() }),
      ),
      { maxLength: 60 },
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 32 }), actions, async (total, script) => {
        const budget = new MemoryBudget(total, 8);
        const held: Lease[] = [];
        const waiting = new Map<AbortController, number>();
        /** Requests in the order in which they were made, and in which they were served. */
        const asked: number[] = [];
        const served: number[] = [];
        const check = async () => {
          for (let turn = 0; turn < 4; turn += 1) await Promise.resolve();
          const out = held.reduce((sum, lease) => sum + lease.byteLength, 0);
          expect(budget.usedBytes).toBe(out);
          if (out > total) expect(held).toHaveLength(1);
          expect(new Set(held.map((lease) => lease.buffer)).size).toBe(held.length);
        };
        for (const action of script) {
          if (action.do === "lease") {
            const controller = new AbortController();
            const number = asked.push(action.bytes) - 1;
            waiting.set(controller, number);
            budget.lease(action.bytes, { signal: controller.signal }).then((lease) => {
              waiting.delete(controller);
              if (lease === undefined) return;
              served.push(number);
              held.push(lease);
            });
          } else if (action.do === "release") {
            if (held.length > 0) held.splice(action.which % held.length, 1)[0]!.release();
          } else if (waiting.size > 0) {
            [...waiting.keys()][action.which % waiting.size]!.abort();
          }
          await check();
        }
        while (held.length > 0) {
          held.pop()!.release();
          await check();
        }
        expect(waiting.size).toBe(0);
        expect(served).toEqual([...served].sort((a, b) => a - b));
        expect(budget.usedBytes).toBe(0);
      }),
      { numRuns: 150 },
    );
  });

  it("gives who cannot wait a lease at once or none, and never before those who wait", async () => {
    const budget = new MemoryBudget(100, 64);
    const first = budget.tryLease(60)!;
    expect([first.byteLength, first.buffer.length >= 60]).toEqual([64, true]);
    expect(budget.tryLease(50)).toBeUndefined();
    const waiting = budget.lease(50);
    expect(budget.tryLease(1)).toBeUndefined();
    first.release();
    const second = (await waiting)!;
    expect(budget.tryLease(4)).toBeDefined();
    expect(budget.usedBytes).toBe(68);
    second.release();
    expect(budget.usedBytes).toBe(4);
  });
});
