import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { checkTimeSlots, loadKernelCalls, readBtf, SlotCollector } from "../../src/timeslots/index.ts";
import { SUM_COUNT, SUMS, type Sum } from "../../src/timeslots/slot-table.ts";

/** Why time slots cannot be had here; undefined: they can. With CI=true they must. */
export const noSlots: string | undefined = await checkTimeSlots(loadKernelCalls).then(
  () => undefined,
  (error: Error) => error.message,
);
if (noSlots !== undefined) {
  if (process.env["CI"] === "true") throw new Error(`CI must be able to use eBPF: ${noSlots}`);
  console.warn(`SKIPPED: tests of time slots (${noSlots})`);
}

export type Sums = { readonly [sum in Sum]: number };

/** One slot as it was handed on, copied. */
export interface SeenSlot {
  readonly startRealtimeNs: bigint;
  readonly lostEvents: number;
  readonly isComplete: boolean;
  readonly rows: ReadonlyMap<number, readonly number[]>;
}

type CollectorOptions = Partial<ConstructorParameters<typeof SlotCollector>[1]>;

/** A collector that is looked at every few milliseconds, and everything that it told. */
export class SlotWatch implements Disposable {
  readonly collector: SlotCollector;
  readonly slots: SeenSlot[] = [];
  readonly #timer: NodeJS.Timeout | undefined;

  private constructor(collector: SlotCollector, everyMs: number) {
    this.collector = collector;
    if (everyMs > 0) this.#timer = setInterval(() => this.look(), everyMs);
  }

  /** `everyMs` 0: nobody looks before `look` is called. */
  static async start(options: CollectorOptions = {}, everyMs = 5): Promise<SlotWatch> {
    const collector = new SlotCollector(await loadKernelCalls(), {
      btf: readBtf(),
      slotNs: 1_000_000,
      ringBytes: 8_388_608,
      ...options,
    });
    return new SlotWatch(collector, everyMs);
  }

  look(): void {
    this.collector.collect(({ startRealtimeNs, lostEvents, isComplete, table }) => {
      const rows = new Map<number, number[]>();
      for (let row = 0; row < table.rows; row += 1)
        rows.set(
          table.process(row),
          Array.from({ length: SUM_COUNT }, (_, sum) => table.value(row, sum)),
        );
      this.slots.push({ startRealtimeNs, lostEvents, isComplete, rows });
    });
  }

  /** Looks until all slots of before now are closed. */
  async settle(): Promise<void> {
    const nowNs = BigInt(Date.now()) * 1_000_000n;
    for (let turn = 0; turn < 10_000; turn += 1) {
      this.look();
      if ((this.slots.at(-1)?.startRealtimeNs ?? 0n) > nowNs) return;
      await sleep(2);
    }
    throw new Error("slots are not closed any more");
  }

  /** What a process did in all slots together. */
  sumsOf(process: number): Sums {
    const sums = new Array<number>(SUM_COUNT).fill(0);
    for (const { rows } of this.slots)
      rows.get(process)?.forEach((value, sum) => {
        sums[sum]! += value;
      });
    return Object.fromEntries(SUMS.map((name, index) => [name, sums[index]])) as Sums;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.collector.close();
  }
}

/** A process that works, tells its own numbers in one line of JSON, and then waits to be killed. */
export class Load implements AsyncDisposable {
  readonly pid: number;
  readonly #child;

  private constructor(child: ReturnType<typeof spawn>) {
    this.#child = child;
    this.pid = child.pid!;
  }

  /** `code`: statements of a script; `report` is given to it. */
  static start(code: string): Load {
    const script = `
      const { writeSync } = require("node:fs");
      // Said once before: what is compiled at the first time would be used behind the account that it is part of.
      writeSync(1, JSON.stringify({ usage: process.resourceUsage() }).replace(/./g, " "));
      const report = (more = {}) => {
        const usage = process.resourceUsage();
        writeSync(1, JSON.stringify({ usage, ...more }) + "\\n");
        // As good as gone, but for its numbers.
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      };
      ${code}
    `;
    return new Load(
      spawn(process.execPath, ["--single-threaded", "-e", script], { stdio: ["ignore", "pipe", "inherit"] }),
    );
  }

  /** What it told, and once it rests, the kernel's account of its threads: ns on a processor, ns on a run queue. */
  async told(): Promise<{
    readonly cpu: number;
    readonly wait: number;
    readonly usage: NodeJS.ResourceUsage;
    readonly [more: string]: unknown;
  }> {
    let text = "";
    for await (const chunk of this.#child.stdout!) {
      text += chunk;
      if (text.endsWith("\n")) return { ...JSON.parse(text), ...(await this.#atRest()) };
    }
    throw new Error(`the load ended without a word: ${text}`);
  }

  /**
   * Read from outside, and twice alike: a process that reads its own account can be put off the processor between that
   * and its sleep, for as long as others keep the processor busy, and what it waits then is in the slots alone.
   */
  async #atRest(): Promise<{ readonly cpu: number; readonly wait: number }> {
    for (let last = "", turn = 0; turn < 500; turn += 1) {
      const account = this.#account();
      if (JSON.stringify(account) === last) return account;
      last = JSON.stringify(account);
      await sleep(20);
    }
    throw new Error("the load does not rest");
  }

  #account(): { cpu: number; wait: number } {
    const account = { cpu: 0, wait: 0 };
    for (const task of readdirSync(`/proc/${this.pid}/task`)) {
      const [cpu, wait] = readFileSync(`/proc/${this.pid}/task/${task}/schedstat`, "utf8").split(" ").map(Number);
      account.cpu += cpu!;
      account.wait += wait!;
    }
    return account;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await gone;
  }
}
