// How many events a second, and what one costs: `npm run build`, then, as root, `node bench/timeslots/events.mjs`.
// Words after it choose parts. SECONDS=n changes the length of a part, WRITERS=n how many processes make system calls as fast as they can (default: one
// for each processor). Nothing may be lost: begun = taken + lost is checked, and lost is shown.
//
//   slots    what the source does: system calls summed up in the kernel, a record for each process and slot
//   ring     every call as a record of 16 bytes through the ring: what the reader alone can do
//   merger   records of context switches, from memory: what JavaScript does with each
import { spawn, spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { Assembler } from "../../dist/timeslots/assembler.js";
import { loadKernelCalls, readBtf, SlotCollector } from "../../dist/timeslots/index.js";
import { SharedValue } from "../../dist/timeslots/maps.js";
import { Ownership } from "../../dist/timeslots/ownership.js";
import { attachTracepoint, loadProgram } from "../../dist/timeslots/programs.js";
import { Ring } from "../../dist/timeslots/ring.js";
import { RECORD, RUN } from "../../dist/timeslots/shared-layout.js";
import { SlotMerger } from "../../dist/timeslots/slot-merger.js";
import { SUM } from "../../dist/timeslots/slot-table.js";
import { pause } from "../files/measure.mjs";

const SECONDS = Number(process.env["SECONDS"] ?? 5);
const WRITERS = Number(process.env["WRITERS"] ?? availableParallelism());
const calls = await loadKernelCalls();

/** The cheapest call there is, as fast as it goes: with perf (Debian's linux-perf), else dd, whose calls cost twice as much. */
const hasPerf = spawnSync("perf", ["bench", "syscall", "basic", "--loop", "1"], { stdio: "ignore" }).status === 0;
const CALLER = hasPerf
  ? ["perf", "bench", "syscall", "basic", "--loop", "1000000000"]
  : ["dd", "if=/dev/zero", "of=/dev/null", "bs=1"];

async function withWriters(work) {
  const writers = Array.from({ length: WRITERS }, () => spawn(CALLER[0], CALLER.slice(1), { stdio: "ignore" }));
  try {
    await pause(200);
    return await work(new Set(writers.map(({ pid }) => pid)));
  } finally {
    for (const writer of writers) writer.kill("SIGKILL");
  }
}

/** Runs `look` every `everyMs` for the length of a part; how long it took, wall clock and CPU of this process. */
async function during(everyMs, look) {
  const started = performance.now();
  const before = process.cpuUsage();
  while (performance.now() - started < SECONDS * 1000) {
    look();
    await pause(everyMs);
  }
  const { user, system } = process.cpuUsage(before);
  return { seconds: (performance.now() - started) / 1000, cpuSeconds: (user + system) / 1e6 };
}

async function slots() {
  const collector = new SlotCollector(calls, { btf: readBtf(), slotNs: 1_000_000, ringBytes: 8_388_608 });
  try {
    return await withWriters(async (pids) => {
      let events = 0;
      let rows = 0;
      let incomplete = 0;
      const look = () =>
        collector.collect(({ table, isComplete }) => {
          rows += table.rows;
          if (!isComplete) incomplete += 1;
          for (let row = 0; row < table.rows; row += 1)
            if (pids.has(table.process(row))) events += table.value(row, SUM.syscalls);
        });
      look();
      events = 0;
      const { seconds, cpuSeconds } = await during(50, look);
      return row({ events, seconds, cpuSeconds, lost: collector.counts().lost, rows, incomplete });
    });
  } finally {
    collector.close();
  }
}

async function ring() {
  const owned = new Ownership();
  try {
    const buffer = new Ring(calls, owned, "bench_ring", 16 << 20);
    const counters = new SharedValue(calls, owned, "bench_counters", 16);
    const code = new Assembler()
      .register("mov", 6, 1)
      .mapValue(1, counters.descriptor, 0)
      .immediate("mov", 2, 1)
      .atomicAdd(8, 1, 0, 2)
      .map(1, buffer.descriptor)
      .immediate("mov", 2, 16)
      .immediate("mov", 3, 0)
      .call("ringbuf_reserve")
      .jumpIf(0, "!=", 0, "room")
      .mapValue(1, counters.descriptor, 8)
      .immediate("mov", 2, 1)
      .atomicAdd(8, 1, 0, 2)
      .immediate("mov", 0, 0)
      .exit()
      .label("room")
      .register("mov", 7, 0)
      .call("ktime_get_ns")
      .store(8, 7, 0, 0)
      .call("get_current_pid_tgid")
      .store(8, 7, 8, 0)
      .register("mov", 1, 7)
      .immediate("mov", 2, 1)
      .call("ringbuf_submit")
      .immediate("mov", 0, 0)
      .exit()
      .assemble();
    const program = loadProgram(calls, owned, { name: "bench_enter", type: "raw_tracepoint", code });
    return await withWriters(async () => {
      const attached = new Ownership();
      attachTracepoint(calls, attached, program, "sys_enter");
      let taken = 0;
      const { reader } = buffer;
      // As columns: time and process of the newest million.
      const times = new Float64Array(1 << 20);
      const processes = new Uint32Array(1 << 20);
      const take = (word) => {
        const at = taken & 0xfffff;
        times[at] = reader.words[word] + reader.words[word + 1] * 4294967296;
        processes[at] = reader.words[word + 3];
        taken += 1;
      };
      const look = () => reader.drain(take);
      const { seconds, cpuSeconds } = await during(5, look);
      // Nobody looks until it is full; then all of it at once: what one core can take.
      const before = taken;
      const lostBefore = Number(new BigUint64Array(counters.bytes, 0, 2)[1]);
      for (const end = performance.now() + 10_000; reader.pendingBytes < reader.sizeBytes * 0.98; )
        if (performance.now() > end) break;
        else await pause(20);
      const usage = process.cpuUsage();
      look();
      const { user, system } = process.cpuUsage(usage);
      const full = (taken - before) / (user + system);
      attached.release();
      const [begun, lost] = new BigUint64Array(counters.bytes, 0, 2);
      // A program that was running as it was detached ends within microseconds.
      for (let turn = 0; turn < 100 && reader.pendingBytes > 0; turn += 1) look();
      if (Number(begun) !== taken + Number(lost)) throw new Error(`${begun} begun, ${taken} taken, ${lost} lost`);
      const told = row({ events: before, seconds, cpuSeconds, lost: lostBefore });
      return { ...told, "million/s of CPU from a full ring": full.toFixed(1) };
    });
  } finally {
    owned.release();
  }
}

async function merger() {
  const merging = new SlotMerger({ slotNs: 1_000_000, processors: 4, hasCounters: false, baseNs: 0n });
  const words = new Uint32Array(RUN.byteLength / 4);
  const memory = { words, bytes: new Uint8Array(words.buffer) };
  let events = 0;
  let now = 1;
  const { seconds, cpuSeconds } = await during(0, () => {
    for (let count = 0; count < 100_000; count += 1) {
      // Twenty tasks of ten processes in turn on four processors, 20 microseconds each.
      const cpu = count & 3;
      const task = 1 + (count % 20);
      const next = 1 + ((count + 4) % 20);
      now += 5000;
      words[0] = now % 2 ** 32;
      words[1] = Math.floor(now / 2 ** 32);
      words[2] = RECORD.SWITCH | (cpu << 8);
      words[RUN.flags / 4] = 1;
      words[RUN.sinceNs / 4] = 1;
      words[RUN.slotEndNs / 4] = now % 2 ** 32;
      words[RUN.slotEndNs / 4 + 1] = Math.floor(now / 2 ** 32);
      words[RUN.task / 4] = task;
      words[RUN.process / 4] = task >> 1;
      words[RUN.nextTask / 4] = next;
      words[RUN.nextProcess / 4] = next >> 1;
      words[RUN.switches / 4] = count;
      words[RUN.syscalls / 4] = 3;
      merging.take(memory, 0);
      events += 1;
    }
    merging.close(now, () => {});
  });
  return row({ events, seconds: cpuSeconds, cpuSeconds, lost: 0, wall: seconds });
}

function row({ events, seconds, cpuSeconds, lost, rows, incomplete }) {
  return {
    "million events/s": (events / seconds / 1e6).toFixed(2),
    lost,
    "ns of ours/event": ((cpuSeconds / events) * 1e9).toFixed(1),
    "% of a core": ((cpuSeconds / seconds) * 100).toFixed(1),
    "MiB resident": Math.round(process.memoryUsage.rss() / 1048576),
    ...(rows === undefined ? {} : { "rows/s": Math.round(rows / seconds), "incomplete slots": incomplete }),
  };
}

const parts = { slots, ring, merger };
const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(parts);
const results = {};
for (const name of chosen) results[name] = await parts[name]();
console.table(results);
