import type { Btf } from "./btf.ts";
import { type KernelCalls, KernelError } from "./kernel-calls.ts";
import { createMap, SharedValue, setEntry } from "./maps.ts";
import { Ownership } from "./ownership.ts";
import type { CounterName, Counters } from "./program-parts.ts";
import { attachToCounter, loadProgram, openCounter, traceWith } from "./programs.ts";
import { Ring } from "./ring.ts";
import { HEADER, RECORD, sharedBytes } from "./shared-layout.ts";
import { SlotPrograms } from "./slot-programs.ts";

/** perf_event_open(2): type and config of each. */
export type CounterEvents = { readonly [counter in CounterName]: { readonly type: number; readonly config: number } };

/** PERF_TYPE_HARDWARE with PERF_COUNT_HW_CPU_CYCLES, _INSTRUCTIONS and _CACHE_MISSES. */
const HARDWARE_EVENTS: CounterEvents = {
  cycles: { type: 0, config: 0 },
  instructions: { type: 0, config: 1 },
  cacheMisses: { type: 0, config: 3 },
};
/** PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS; a sample of each. */
const PAGE_FAULT_EVENT = { type: 1, config: 2, samplePeriod: 1 };

export interface KernelSideOptions {
  readonly btf: Btf;
  readonly slotNs: number;
  /** A power of two and a multiple of the page. */
  readonly ringBytes: number;
  /** What is added to CLOCK_MONOTONIC so that edges of slots are multiples of `slotNs`. */
  readonly edgeOffsetNs: bigint;
  /** What to count as the hardware's counters; a test on a machine that has none gives others. */
  readonly counterEvents?: CounterEvents | undefined;
  /** "event": by perf events, as on machines whose page faults have no tracepoint. */
  readonly pageFaultsBy?: "tracepoint" | "event" | undefined;
}

/** What the machine can tell; what it cannot is absent in the output, and not zero. */
export interface Abilities {
  readonly counters: ReadonlySet<CounterName>;
  readonly network: boolean;
  readonly block: boolean;
}

/** All that is loaded, mapped and attached. */
export interface KernelSide {
  readonly ring: Ring;
  readonly shared: SharedValue;
  /** Descriptor of the program that asks a processor for its sums. */
  readonly sums: number;
  /** Processors there can be, rounded up to a power of two. */
  readonly processors: number;
  readonly abilities: Abilities;
  /** Detaches every program: from then on nothing new begins. The rest stays until its owner is released. */
  detach(): void;
}

/** Processes, and cgroups, that the kernel keeps in mind as told of. */
const KNOWN_PROCESSES = 32_768;
const KNOWN_CGROUPS = 4_096;

/**
 * Makes maps, then loads programs and attaches them: from the last step on, records come. All of it belongs to `owned`.
 * @throws BtfError, VerifierError, KernelError
 */
export function openKernelSide(calls: KernelCalls, owned: Ownership, options: KernelSideOptions): KernelSide {
  const { btf, slotNs } = options;
  const possible = calls.processors;
  const processors = 2 ** Math.ceil(Math.log2(possible));
  const ring = new Ring(calls, owned, "tailrace_ring", options.ringBytes);
  const shared = new SharedValue(calls, owned, "tailrace_slots", sharedBytes(processors));
  new BigUint64Array(shared.bytes)[HEADER.edgeOffsetNs / 8] = options.edgeOffsetNs;
  const known = (name: string, keyBytes: number, entries: number) =>
    createMap(calls, owned, { type: "LRU_HASH", name, keyBytes, valueBytes: 8, entries });
  const knownProcesses = known("tailrace_procs", 4, KNOWN_PROCESSES);
  const knownCgroups = known("tailrace_cgroup", 8, KNOWN_CGROUPS);
  const counters = openCounters(calls, owned, possible, options.counterEvents ?? HARDWARE_EVENTS);
  const programs = new SlotPrograms({
    btf,
    slotNs,
    processors,
    ring: ring.descriptor,
    shared: shared.descriptor,
    knownProcesses,
    knownCgroups,
    counters,
  });
  const attached = owned.own(new Ownership(), (links) => links.release());
  const trace = (tracepoint: string, code: Buffer) =>
    traceWith(calls, owned, attached, btf, { name: `tr_${tracepoint.replace(/^sched_/, "")}`, tracepoint, code });

  const sums = loadProgram(calls, owned, { name: "tr_sums", type: "raw_tracepoint", code: programs.sums() });
  // Names are told again now and then where these are missing; and who is gone is forgotten late.
  const traceIfThere = (tracepoint: string, code: Buffer) => {
    if (btf.tracepoint(tracepoint) !== undefined) trace(tracepoint, code);
  };
  traceIfThere("sched_process_free", programs.processFree());
  traceIfThere("task_rename", programs.taskRename());
  traceIfThere("cgroup_attach_task", programs.cgroupAttach());
  trace("sys_enter", programs.sysEnter());
  tracePageFaults(calls, { owned, attached }, possible, options, programs, trace);
  // Linux 6.3; before it no tracepoint of a socket told bytes and process.
  const network = btf.tracepoint("sock_send_length") !== undefined && btf.tracepoint("sock_recv_length") !== undefined;
  if (network) {
    trace("sock_send_length", programs.socket("sent"));
    trace("sock_recv_length", programs.socket("received"));
  }
  const block = btf.tracepoint("block_bio_queue") !== undefined;
  if (block) trace("block_bio_queue", programs.blockBytes());
  trace("sched_wakeup_new", programs.schedWakeup(RECORD.NEW));
  trace("sched_wakeup", programs.schedWakeup(RECORD.WAKE));
  trace("sched_switch", programs.schedSwitch());
  const abilities = { counters: new Set(Object.keys(counters) as CounterName[]), network, block };
  return { ring, shared, sums, processors, abilities, detach: () => attached.release() };
}

function tracePageFaults(
  calls: KernelCalls,
  { owned, attached }: { readonly owned: Ownership; readonly attached: Ownership },
  possible: number,
  options: KernelSideOptions,
  programs: SlotPrograms,
  trace: (tracepoint: string, code: Buffer) => void,
): void {
  const code = programs.pageFault();
  if (options.pageFaultsBy !== "event" && options.btf.tracepoint("page_fault_user") !== undefined) {
    trace("page_fault_user", code);
    trace("page_fault_kernel", code);
    return;
  }
  const program = loadProgram(calls, owned, { name: "tr_page_fault", type: "perf_event", code });
  for (let cpu = 0; cpu < possible; cpu += 1) {
    const counter = unlessOffline(() => openCounter(calls, attached, cpu, PAGE_FAULT_EVENT));
    if (counter !== undefined) attachToCounter(calls, counter, program);
  }
}

/** The counters that the machine has, each as a map with a descriptor for each processor. */
function openCounters(calls: KernelCalls, owned: Ownership, possible: number, events: CounterEvents): Counters {
  const counters: { [counter in CounterName]?: number } = {};
  for (const [name, event] of Object.entries(events) as [CounterName, CounterEvents[CounterName]][]) {
    try {
      const opened: [cpu: number, descriptor: number][] = [];
      for (let cpu = 0; cpu < possible; cpu += 1) {
        const descriptor = unlessOffline(() => openCounter(calls, owned, cpu, { ...event, isPinned: true }));
        if (descriptor !== undefined) opened.push([cpu, descriptor]);
      }
      const map = createMap(calls, owned, {
        type: "PERF_EVENT_ARRAY",
        name: "tailrace_count",
        keyBytes: 4,
        valueBytes: 4,
        entries: possible,
      });
      for (const [cpu, descriptor] of opened) setEntry(calls, map, cpu, descriptor);
      counters[name] = map;
    } catch (error) {
      if (!(error instanceof KernelError) || !NO_COUNTER.has(error.reason)) throw error;
    }
  }
  return counters;
}

/** What perf_event_open(2) says where there is no such counter. */
const NO_COUNTER: ReadonlySet<string> = new Set(["ENOENT", "EOPNOTSUPP", "ENOTSUP", "ENOSYS", "EINVAL"]);

function unlessOffline(open: () => number): number | undefined {
  try {
    return open();
  } catch (error) {
    if (error instanceof KernelError && error.reason === "ENODEV") return undefined;
    throw error;
  }
}
