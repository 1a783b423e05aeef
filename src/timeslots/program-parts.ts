import type { Assembler } from "./assembler.ts";
import type { Btf } from "./btf.ts";
import {
  CGROUP,
  COMMON,
  HEADER,
  HEADER_BYTES,
  LOSS_SLOTS,
  lossesAt,
  PROCESS,
  RECORD,
  STATE,
  STATE_SHIFT,
} from "./shared-layout.ts";

/** What the programs are made for. */
export interface ProgramSetting {
  readonly btf: Btf;
  readonly slotNs: number;
  /** States in the shared value; a power of two. */
  readonly processors: number;
  /** Descriptors of the maps. */
  readonly ring: number;
  readonly shared: number;
  /** Processes and cgroups that were told of. */
  readonly knownProcesses: number;
  readonly knownCgroups: number;
  readonly counters: Counters;
}

export type CounterName = "cycles" | "instructions" | "cacheMisses";

/** The hardware counters that the machine has, each a map with one descriptor for each processor. */
export type Counters = { readonly [counter in CounterName]?: number };

/** BPF_RB_NO_WAKEUP: the reader comes by itself. Waking it at each context switch would feed itself. */
const NO_WAKEUP = 1;
/** Where registers are kept over calls; below the frame pointer. */
export const STACK = {
  next: -8,
  preempt: -16,
  previousState: -24,
  processKey: -32,
  known: -40,
  cgroupKey: -48,
  counter: -72,
};

/*
 * Registers, in all programs:
 *   r6 the task that runs (in a switch: that ran), r7 the state of this processor, r8 the record, r9 the time
 *
 * What makes them exact:
 * - sched_switch runs with interrupts off: nothing else of ours runs on its processor meanwhile.
 * - Everything else may be interrupted by something of ours. Sums are added atomically and claimed by exchange, so that
 *   each is in one record or the next, never in two.
 * - A record is `begun` before the time is read, and `through` once it is in the ring: a reader that finds the two equal
 *   at some moment has in the ring all that happened on that processor before.
 * - Counting (a system call, a fault, bytes) costs a look at the clock and an addition. Only the first of a slot writes a
 *   record: the sums of the slot that is over.
 */

/** The pieces that the programs of time slots are made of. */
export class ProgramParts {
  readonly #setting: ProgramSetting;

  constructor(setting: ProgramSetting) {
    this.#setting = setting;
  }

  /** r7 = state of this processor. */
  state(a: Assembler): void {
    const { shared, processors } = this.#setting;
    a.call("get_smp_processor_id")
      .immediate("&", 0, processors - 1)
      .immediate("<<", 0, STATE_SHIFT)
      .mapValue(7, shared, HEADER_BYTES)
      .register("+", 7, 0);
  }

  /** A record begins; r9 = now. In this order: a reader that sees no record under way must not get an older one later. */
  begin(a: Assembler): void {
    a.immediate("mov", 1, 1).atomicAdd(8, 7, STATE.begun, 1).call("ktime_get_ns").register("mov", 9, 0);
  }

  through(a: Assembler): void {
    a.immediate("mov", 1, 1).atomicAdd(8, 7, STATE.through, 1);
  }

  /** r8 = room for a record; else on at `lost`. */
  reserve(a: Assembler, byteLength: number, lost: string): void {
    a.map(1, this.#setting.ring)
      .immediate("mov", 2, byteLength)
      .immediate("mov", 3, 0)
      .call("ringbuf_reserve")
      .jumpIf(0, "==", 0, lost)
      .register("mov", 8, 0);
  }

  submit(a: Assembler): void {
    a.register("mov", 1, 8).immediate("mov", 2, NO_WAKEUP).call("ringbuf_submit");
  }

  /** One more record is lost, in the slot of r9. */
  lose(a: Assembler): void {
    const { shared, slotNs, processors } = this.#setting;
    a.mapValue(1, shared, HEADER.edgeOffsetNs)
      .load(8, 1, 1, 0)
      .register("+", 1, 9)
      .immediate("/", 1, slotNs)
      .immediate("&", 1, LOSS_SLOTS - 1)
      .immediate("<<", 1, 2)
      .mapValue(2, shared, lossesAt(processors))
      .register("+", 2, 1)
      .immediate("mov", 3, 1)
      .atomicAdd(4, 2, 0, 3)
      .atomicAdd(8, 7, STATE.lost, 3);
  }

  /** The end of the slot that r9 lies in. */
  openSlot(a: Assembler): void {
    const { shared, slotNs } = this.#setting;
    a.mapValue(1, shared, HEADER.edgeOffsetNs)
      .load(8, 1, 1, 0)
      .register("+", 1, 9)
      .immediate("%", 1, slotNs)
      .register("mov", 2, 9)
      .register("-", 2, 1)
      .immediate("+", 2, slotNs)
      .store(8, 7, STATE.slotEndNs, 2);
  }

  common(a: Assembler, kind: number): void {
    a.call("get_smp_processor_id")
      .immediate("<<", 0, 8)
      .immediate("|", 0, kind)
      .store(8, 8, COMMON.timeNs, 9)
      .store(4, 8, COMMON.kind, 0);
  }

  /** A PROCESS record of the task in r6, but for its name. */
  processRecord(a: Assembler): void {
    this.common(a, RECORD.PROCESS);
    a.load(4, 1, 6, this.task("tgid")).store(4, 8, PROCESS.process, 1);
    this.kernfsNode(a);
    a.load(8, 1, 1, this.#setting.btf.field("kernfs_node", "id").offset).store(8, 8, PROCESS.cgroupId, 1);
    a.storeImmediate(8, 8, PROCESS.comm, 0).storeImmediate(8, 8, PROCESS.comm + 8, 0);
  }

  /** r1 = the node of the cgroup (of version 2) that the task in r6 is in. */
  kernfsNode(a: Assembler): void {
    const { btf } = this.#setting;
    a.load(8, 1, 6, this.task("cgroups"))
      .load(8, 1, 1, btf.field("css_set", "dfl_cgrp").offset)
      .load(8, 1, 1, btf.field("cgroup", "kn").offset);
  }

  /** Tells of the process of the task in r6, and of its cgroup, once each. */
  tellProcess(a: Assembler): void {
    const { knownProcesses, knownCgroups, btf } = this.#setting;
    const kernfsId = btf.field("kernfs_node", "id").offset;
    a.load(4, 1, 6, this.task("tgid")).jumpIf(1, "==", 0, "told").store(4, 10, STACK.processKey, 1);
    this.lookUp(a, knownProcesses, STACK.processKey);
    a.jumpIf(0, "!=", 0, "told");
    this.begin(a);
    this.reserve(a, PROCESS.byteLength, "process lost");
    this.processRecord(a);
    a.load(8, 2, 6, this.task("group_leader"))
      .load(8, 1, 2, this.task("comm"))
      .store(8, 8, PROCESS.comm, 1)
      .load(8, 1, 2, this.task("comm") + 8)
      .store(8, 8, PROCESS.comm + 8, 1);
    this.submit(a);
    this.note(a, knownProcesses, STACK.processKey);
    this.through(a);

    this.kernfsNode(a);
    a.load(8, 1, 1, kernfsId).store(8, 10, STACK.cgroupKey, 1);
    this.lookUp(a, knownCgroups, STACK.cgroupKey);
    a.jumpIf(0, "!=", 0, "told");
    this.begin(a);
    this.reserve(a, CGROUP.byteLength, "cgroup lost");
    this.common(a, RECORD.CGROUP);
    a.load(8, 1, 10, STACK.cgroupKey).store(8, 8, CGROUP.cgroupId, 1);
    this.kernfsNode(a);
    const parent = btf.firstField("kernfs_node", "__parent", "parent").offset;
    const name = btf.field("kernfs_node", "name").offset;
    // r6 is not needed any more: it goes up from node to node. Unrolled: loops would need a newer kernel.
    a.register("mov", 6, 1);
    for (let level = 0; level < CGROUP.levels; level += 1) {
      const at = CGROUP.names + level * CGROUP.nameBytes;
      a.storeImmediate(8, 8, at, 0)
        .jumpIf(6, "==", 0, "named")
        .register("mov", 1, 8)
        .immediate("+", 1, at)
        .immediate("mov", 2, CGROUP.nameBytes)
        .load(8, 3, 6, name)
        .call("probe_read_kernel_str")
        .load(8, 6, 6, parent);
    }
    a.label("named");
    this.submit(a);
    this.note(a, knownCgroups, STACK.cgroupKey);
    a.jump("cgroup through").label("cgroup lost");
    this.lose(a);
    a.label("cgroup through");
    this.through(a);
    a.jump("told").label("process lost");
    this.lose(a);
    this.through(a);
    a.label("told");
  }

  lookUp(a: Assembler, map: number, key: number): void {
    a.map(1, map).register("mov", 2, 10).immediate("+", 2, key).call("map_lookup_elem");
  }

  /** Where it fails (a full or busy map) it is told of once more. */
  note(a: Assembler, map: number, key: number): void {
    a.storeImmediate(8, 10, STACK.known, 1)
      .map(1, map)
      .register("mov", 2, 10)
      .immediate("+", 2, key)
      .register("mov", 3, 10)
      .immediate("+", 3, STACK.known)
      .immediate("mov", 4, 0)
      .call("map_update_elem");
  }

  forgetProcess(a: Assembler): void {
    a.map(1, this.#setting.knownProcesses)
      .register("mov", 2, 10)
      .immediate("+", 2, STACK.processKey)
      .call("map_delete_elem");
  }

  /** Where a field of the kernel's task_struct lies. */
  task(...paths: readonly [string, ...string[]]): number {
    return this.#setting.btf.firstField("task_struct", ...paths).offset;
  }
}
