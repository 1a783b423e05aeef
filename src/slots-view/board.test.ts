import { describe, expect, it } from "vitest";
import { Board } from "./board.ts";
import { plainLines, screenLines } from "./screen.ts";
import { blame, FullRun, type Slot, type SlotRow } from "./time-slot.ts";

const START_MS = Date.UTC(2026, 10, 21, 10);

const row = (pid: number, cpuNs: number, waitNs = 0, comm = `p${pid}`): SlotRow => ({
  pid,
  comm,
  cgroup: "/",
  cpuNs,
  waitNs,
  switches: 1,
  faults: 0,
  syscalls: 2,
  blockBytes: 0,
  netBytes: 0,
});

const slot = (index: number, rows: readonly SlotRow[], over: Partial<Slot> = {}): Slot => ({
  startMs: START_MS + index,
  ns: 1_000_000,
  isComplete: true,
  lostEvents: 0,
  rows,
  ...over,
});

const plain = new Proxy({}, { get: () => (text: string) => text }) as Parameters<typeof screenLines>[1]["paint"];
const screen = (board: Board, columns = 120, rows = 30) =>
  screenLines(board, { columns, rows, sortBy: "cpuNs", slotMs: 1, nowMs: START_MS, paint: plain });

describe("blame", () => {
  it("shares the time that others waited among those that ran, by how long each ran", () => {
    const { noiseOf, cpuNs, waitNs, busiest } = blame({ rows: [row(1, 750), row(2, 250, 400), row(3, 0, 600)] });
    expect([cpuNs, waitNs, busiest]).toEqual([1000, 1000, 0]);
    // What somebody waited is nobody's own noise.
    expect([noiseOf(0), noiseOf(1), noiseOf(2)]).toEqual([750, 150, 0]);
  });

  it("blames nobody where nobody ran", () => {
    expect(blame({ rows: [row(1, 0, 500)] }).noiseOf(0)).toBe(0);
  });
});

describe("FullRun", () => {
  it("grows slot by slot, and ends with one that is not full or is missing", () => {
    const run = new FullRun();
    const lengths = [0, 1, 2, 4, 5, 6].map((index) =>
      run.add({ startMs: START_MS + index, ns: 1_000_000 }, index === 6 ? 1000 : 990_000),
    );
    expect(lengths).toEqual([1, 2, 0, 1, 2, 0].map((ms, at) => (at === 2 ? 3_000_000 : ms * 1_000_000)));
  });
});

describe("Board", () => {
  /** Two seconds: one process runs, another waits every tenth slot. */
  function busyBoard(): Board {
    const board = new Board();
    for (let index = 0; index < 2000; index += 1) {
      const waits = index % 10 === 0;
      board.add(slot(index, waits ? [row(1, 1_000_000), row(2, 100_000, 900_000)] : [row(1, 1_000_000)]));
    }
    return board;
  }

  it("has the rates of the last whole second, and sorts by what is asked for", () => {
    const board = busyBoard();
    const [first, second] = board.rows("cpuNs", 10);
    expect(first).toMatchObject({ pid: 1, rates: { cpuNs: 1e9, waitNs: 0, switches: 1000, syscalls: 2000 } });
    expect(second).toMatchObject({ pid: 2, rates: { cpuNs: 1e7, waitNs: 9e7, worstWaitNs: 900_000, longestRunNs: 0 } });
    expect(first!.rates.noiseNs).toBeCloseTo((9e7 * 1) / 1.1, 0);
    expect(first!.rates.longestRunNs).toBe(1750 * 1_000_000);
    expect(first!.history.slice(-4)).toEqual([1, 1, 1, 1]);
    expect(board.rows("waitNs", 1)[0]!.pid).toBe(2);
    expect(board.totals()).toMatchObject({ processes: 2, slotsPerSecond: 1000, lostEvents: 0 });
  });

  it("keeps the worst slots of a minute, longest first, with who ran meanwhile", () => {
    const board = new Board();
    board.add(slot(0, [row(1, 0, 5_000_000), row(2, 900_000), row(3, 100_000)]));
    for (let index = 1; index <= 30; index += 1) board.add(slot(index, [row(1, 0, index * 1000), row(2, 1)]));
    expect(board.worst(2).map(({ row: { waitNs } }) => waitNs)).toEqual([5_000_000, 30_000]);
    expect(board.worst(1)[0]!.ran.map(({ pid }) => pid)).toEqual([2, 3]);
    expect(board.worst(100)).toHaveLength(20);
    board.add(slot(61_000, [row(1, 0, 10)]));
    expect(board.worst(100).map(({ row: { waitNs } }) => waitNs)).toEqual([10]);
  });

  it("forgets processes that did nothing for as long as it shows", () => {
    const board = new Board();
    board.add(slot(0, [row(1, 1)]));
    for (const index of [13_000, 14_000]) board.add(slot(index, [row(2, 1)]));
    expect(board.rows("cpuNs", 10).map(({ pid }) => pid)).toEqual([2]);
  });

  it("counts what is missing once for each slot", () => {
    const board = new Board();
    board.add(slot(0, [row(1, 1), row(2, 1)], { isComplete: false, lostEvents: 7 }));
    expect(board.totals()).toMatchObject({ lostEvents: 7, incompleteSlots: 1 });
    expect(screen(board)[1]).toContain("1 slots are incomplete, 7 events were lost");
  });

  it("is drawn within the screen, however small", () => {
    const board = busyBoard();
    for (const [columns, rows] of [
      [200, 50],
      [80, 24],
      [40, 10],
      [20, 3],
    ] as const) {
      const lines = screen(board, columns, rows);
      expect(lines.length).toBeLessThan(rows);
      if (columns >= 80) for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
    }
    expect(screen(board, 80, 24)[2]).toMatch(/NOISE ms\/s {2}LAST 4 s$/);
    const lines = screen(board);
    expect(lines.some((line) => /^p1 +1 +100\.0 .*█$/.test(line))).toBe(true);
    expect(lines.some((line) => line.includes("p2[2] waited 0.90 ms while ran: p1[1] 1.00 ms"))).toBe(true);
  });

  it("shows names of processes without what a terminal would obey", () => {
    const board = new Board();
    for (const index of [0, 300]) board.add(slot(index, [row(1, 1000, 1000, "evil\u001b[2J\nü"), row(2, 1)]));
    const text = [...screen(board), ...plainLines(board, START_MS, "cpuNs", 5)].join("");
    expect(text).not.toContain("\u001b");
    expect(text).not.toContain("\n");
    expect(text).toContain("evil?[2J?ü");
  });
});
