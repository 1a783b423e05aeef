import { Assembler, type Register } from "./assembler.ts";
import { BtfError } from "./btf.ts";
import { ProgramParts, type ProgramSetting, STACK } from "./program-parts.ts";
import { COMM_BYTES, GONE, PROCESS, RECORD, RUN, RUN_FLAGS, STATE, WAKE } from "./shared-layout.ts";

/** include/linux/sched.h; no enumeration, so that BTF does not know it. */
const TASK_DEAD = 0x80;
/** linux/socket.h: bytes that were looked at and not taken; what is no data. */
const MSG_PEEK = 0x2;
const MSG_ERRQUEUE = 0x2000;
/** linux/blk_types.h: bits of the operation; 0 reads and 1 writes, all others carry no data of a process. */
const REQ_OP_MASK = 0xff;
const REQ_OP_WRITE = 1;
const BPF_F_CURRENT_CPU = 0xffff_ffffn;
const COUNTER_VALUE_BYTES = 24;

/** Where the state and the record keep each counter. */
const COUNTER_FIELDS = [
  { name: "cycles", claimed: STATE.claimedCycles, into: RUN.cycles },
  { name: "instructions", claimed: STATE.claimedInstructions, into: RUN.instructions },
  { name: "cacheMisses", claimed: STATE.claimedCacheMisses, into: RUN.cacheMisses },
] as const;

/** The programs of time slots, one for each tracepoint; program-parts.ts says what makes them exact. */
export class SlotPrograms {
  readonly #setting: ProgramSetting;
  readonly #parts: ProgramParts;

  constructor(setting: ProgramSetting) {
    this.#setting = setting;
    this.#parts = new ProgramParts(setting);
  }

  /** sched_switch(preempt, prev, next, prev_state) */
  schedSwitch(): Buffer {
    const { btf } = this.#setting;
    const a = new Assembler();
    a.load(8, 6, 1, 8).load(8, 2, 1, 16).store(8, 10, STACK.next, 2).load(8, 2, 1, 0).store(8, 10, STACK.preempt, 2);
    // Until 5.17 the state is to be read from the task.
    if (btf.tracepointArguments("sched_switch") >= 4) a.load(8, 2, 1, 24);
    else a.load(4, 2, 6, this.#parts.task("__state", "state"));
    a.store(8, 10, STACK.previousState, 2);
    this.#parts.state(a);
    this.#parts.begin(a);
    this.#parts.reserve(a, this.#runBytes, "lost");
    this.#run(a, RECORD.SWITCH);
    // Not the task that came last: a switch was not told of.
    a.load(8, 2, 7, STATE.task)
      .jumpIfRegister(1, "==", 2, "expected")
      .storeImmediate(8, 8, RUN.sinceNs, 0)
      .label("expected")
      .load(8, 2, 10, STACK.next);
    this.#next(a, 2);
    // A task that was preempted, or whose state is TASK_RUNNING (0), waits from now on.
    a.immediate("mov", 1, RUN_FLAGS.isRunnable)
      .load(8, 2, 10, STACK.preempt)
      .immediate("&", 2, 0xff)
      .jumpIf(2, "!=", 0, "flags")
      .load(8, 2, 10, STACK.previousState)
      .immediate("<<", 2, 32)
      .immediate(">>", 2, 32)
      .jumpIf(2, "==", 0, "flags")
      .immediate("mov", 1, 0)
      .jumpIf(2, "&", TASK_DEAD, "dead")
      .jump("flags")
      .label("dead")
      .immediate("mov", 1, RUN_FLAGS.isDead)
      .label("flags")
      .store(4, 8, RUN.flags, 1);
    this.#parts.submit(a);
    a.jump("next").label("lost");
    this.#parts.lose(a);
    // They were the last task's: the next one must not get them.
    for (const sum of [STATE.syscalls, STATE.blockBytes, STATE.sentBytes, STATE.receivedBytes])
      a.storeImmediate(8, 7, sum, 0);
    this.#claimCounters(a, false);
    a.label("next").load(8, 6, 10, STACK.next);
    this.#startRun(a);
    a.load(8, 1, 7, STATE.slotEndNs).jumpIfRegister(9, "<", 1, "same");
    this.#parts.openSlot(a);
    a.label("same");
    this.#parts.through(a);
    this.#parts.tellProcess(a);
    return a.immediate("mov", 0, 0).exit().assemble();
  }

  /** sched_wakeup(task), sched_wakeup_new(task) */
  schedWakeup(kind: typeof RECORD.WAKE | typeof RECORD.NEW): Buffer {
    const a = new Assembler();
    // A task that is woken while it still runs waits for nothing.
    a.load(8, 6, 1, 0).load(4, 1, 6, this.#parts.task("on_cpu")).jumpIf(1, "!=", 0, "end");
    this.#parts.state(a);
    this.#parts.begin(a);
    this.#parts.reserve(a, WAKE.byteLength, "lost");
    this.#parts.common(a, kind);
    a.load(4, 1, 6, this.#parts.task("pid"))
      .store(4, 8, WAKE.task, 1)
      .load(4, 1, 6, this.#parts.task("tgid"))
      .store(4, 8, WAKE.process, 1);
    this.#parts.submit(a);
    a.jump("through").label("lost");
    this.#parts.lose(a);
    a.label("through");
    this.#parts.through(a);
    return a.label("end").immediate("mov", 0, 0).exit().assemble();
  }

  /** sys_enter */
  sysEnter(): Buffer {
    return this.#counting((a) => void a.immediate("mov", 1, 1).atomicAdd(8, 7, STATE.syscalls, 1));
  }

  /** page_fault_user, page_fault_kernel, or the software event: how many there are, the task counts itself. */
  pageFault(): Buffer {
    return this.#counting((a) => void a.storeImmediate(8, 7, STATE.hasFaults, 1));
  }

  /** sock_send_length(sock, result, flags), sock_recv_length(sock, result, flags) */
  socket(direction: "sent" | "received"): Buffer {
    const sum = direction === "sent" ? STATE.sentBytes : STATE.receivedBytes;
    return this.#counting(
      (a) => void a.atomicAdd(8, 7, sum, 6),
      (a) => {
        a.load(8, 6, 1, 8)
          .immediate("<<", 6, 32)
          .immediate(">>", 6, 32)
          // Nothing, or (negative) an error.
          .jumpIf(6, "==", 0, "end")
          .register("mov", 2, 6)
          .immediate(">>", 2, 31)
          .jumpIf(2, "!=", 0, "end");
        if (direction === "received") a.load(8, 2, 1, 16).jumpIf(2, "&", MSG_PEEK | MSG_ERRQUEUE, "end");
      },
    );
  }

  /** block_bio_queue(bio) */
  blockBytes(): Buffer {
    const { btf } = this.#setting;
    const size = btf.field("bio", "bi_iter.bi_size").offset;
    const flags = btf.field("bio", "bi_flags");
    const operation = btf.field("bio", "bi_opf").offset;
    const cloned = btf.enumerator("BIO_CLONED");
    if (cloned === undefined) throw new BtfError("this kernel has no BIO_CLONED");
    // Until 5.10 the queue came first.
    const argument = 8 * (btf.tracepointArguments("block_bio_queue") - 1);
    return this.#counting(
      (a) => void a.atomicAdd(8, 7, STATE.blockBytes, 6),
      (a) => {
        a.load(8, 2, 1, argument)
          .load(4, 3, 2, operation)
          .immediate("&", 3, REQ_OP_MASK)
          .jumpIf(3, ">", REQ_OP_WRITE, "end")
          // What a stacked device (LVM, RAID) hands on was counted when it got it.
          .load(flags.size === 2 ? 2 : 4, 3, 2, flags.offset)
          .jumpIf(3, "&", 1 << cloned, "end")
          .load(4, 6, 2, size)
          .jumpIf(6, "==", 0, "end");
      },
    );
  }

  /** Run on a processor from outside: what its running task has summed up so far becomes a record. */
  sums(): Buffer {
    const a = new Assembler();
    a.call("get_current_task_btf").register("mov", 6, 0);
    this.#parts.state(a);
    // The first look at this processor, or a switch that was not told of: from now on it is known what runs.
    a.load(4, 1, 6, this.#parts.task("pid"))
      .load(8, 2, 7, STATE.task)
      .jumpIfRegister(1, "!=", 2, "start")
      .load(8, 1, 7, STATE.sinceNs)
      .jumpIf(1, "!=", 0, "known")
      .label("start")
      .call("ktime_get_ns")
      .register("mov", 9, 0);
    this.#startRun(a);
    a.load(8, 1, 7, STATE.slotEndNs).jumpIf(1, "!=", 0, "known");
    this.#parts.openSlot(a);
    a.label("known");
    this.#sumsRecord(a);
    // It may have run since before the first switch that was seen.
    this.#parts.tellProcess(a);
    return a.immediate("mov", 0, 0).exit().assemble();
  }

  /** task_rename(task, comm): the name of a process is that of its first task. */
  taskRename(): Buffer {
    const a = new Assembler();
    a.load(8, 6, 1, 0)
      .load(8, 2, 1, 8)
      .store(8, 10, STACK.next, 2)
      .load(4, 1, 6, this.#parts.task("pid"))
      .load(4, 2, 6, this.#parts.task("tgid"))
      .jumpIfRegister(1, "!=", 2, "end")
      .store(4, 10, STACK.processKey, 2);
    this.#parts.state(a);
    this.#parts.begin(a);
    this.#parts.reserve(a, PROCESS.byteLength, "lost");
    this.#parts.processRecord(a);
    // Its new name is not in the task yet.
    a.register("mov", 1, 8)
      .immediate("+", 1, PROCESS.comm)
      .immediate("mov", 2, COMM_BYTES)
      .load(8, 3, 10, STACK.next)
      .call("probe_read_kernel_str");
    this.#parts.submit(a);
    a.jump("through").label("lost");
    this.#parts.lose(a);
    this.#parts.forgetProcess(a);
    a.label("through");
    this.#parts.through(a);
    return a.label("end").immediate("mov", 0, 0).exit().assemble();
  }

  /** cgroup_attach_task(cgroup, path, task, threadgroup): it is told of again when it runs next. */
  cgroupAttach(): Buffer {
    const a = new Assembler();
    a.load(8, 6, 1, 16).load(4, 1, 6, this.#parts.task("tgid")).store(4, 10, STACK.processKey, 1);
    this.#parts.forgetProcess(a);
    return a.immediate("mov", 0, 0).exit().assemble();
  }

  /** sched_process_free(task): of a process, its first task goes last. */
  processFree(): Buffer {
    const a = new Assembler();
    a.load(8, 6, 1, 0)
      .load(4, 1, 6, this.#parts.task("pid"))
      .load(4, 2, 6, this.#parts.task("tgid"))
      .jumpIfRegister(1, "!=", 2, "end")
      .store(4, 10, STACK.processKey, 2);
    this.#parts.forgetProcess(a);
    this.#parts.state(a);
    this.#parts.begin(a);
    this.#parts.reserve(a, GONE.byteLength, "lost");
    this.#parts.common(a, RECORD.GONE);
    a.load(4, 1, 10, STACK.processKey).store(4, 8, GONE.process, 1);
    this.#parts.submit(a);
    a.jump("through").label("lost");
    this.#parts.lose(a);
    a.label("through");
    this.#parts.through(a);
    return a.label("end").immediate("mov", 0, 0).exit().assemble();
  }

  /** Something is to be counted: `count` adds to a sum of the slot that is now. `choose` looks at the arguments first. */
  #counting(count: (a: Assembler) => void, choose?: (a: Assembler) => void): Buffer {
    const a = new Assembler();
    choose?.(a);
    this.#parts.state(a);
    a.call("ktime_get_ns").register("mov", 9, 0);
    a.load(8, 1, 7, STATE.slotEndNs).jumpIfRegister(9, ">=", 1, "over").label("count");
    count(a);
    a.label("end").immediate("mov", 0, 0).exit();
    a.label("over").load(8, 1, 7, STATE.syscalls);
    for (const sum of [STATE.blockBytes, STATE.sentBytes, STATE.receivedBytes, STATE.hasFaults])
      a.load(8, 2, 7, sum).register("|", 1, 2);
    a.jumpIf(1, "!=", 0, "sums");
    this.#parts.openSlot(a);
    a.jump("count").label("sums");
    // r6 may hold what is to be counted.
    const { preempt: amount } = STACK;
    if (choose !== undefined) a.store(8, 10, amount, 6);
    a.call("get_current_task_btf").register("mov", 6, 0);
    // While a switch is half done, a fault in the kernel may come: the state is that of the next task already, and the
    // current one is the last one still.
    a.load(4, 1, 6, this.#parts.task("pid")).load(8, 2, 7, STATE.task).jumpIfRegister(1, "!=", 2, "counted");
    this.#sumsRecord(a);
    a.label("counted");
    if (choose !== undefined) a.load(8, 6, 10, amount);
    a.jump("count");
    return a.assemble();
  }

  /** A record of the sums of the running task (r6); then its next slot. */
  #sumsRecord(a: Assembler): void {
    const [lost, through] = [a.fresh("lost"), a.fresh("through")];
    this.#parts.begin(a);
    this.#parts.reserve(a, this.#runBytes, lost);
    this.#run(a, RECORD.SUMS);
    this.#next(a, 6);
    a.storeImmediate(4, 8, RUN.flags, RUN_FLAGS.isRunnable);
    this.#parts.submit(a);
    a.jump(through).label(lost);
    // The sums stay, and go with the next record.
    this.#parts.lose(a);
    a.label(through);
    this.#parts.openSlot(a);
    this.#parts.through(a);
  }

  get #runBytes(): number {
    return Object.keys(this.#setting.counters).length === 0 ? RUN.byteLength : RUN.byteLengthWithCounters;
  }

  /** The part that SWITCH and SUMS have in common: of the task in r6, which is in r1 afterwards. */
  #run(a: Assembler, kind: number): void {
    this.#parts.common(a, kind);
    a.load(8, 1, 7, STATE.sinceNs)
      .store(8, 8, RUN.sinceNs, 1)
      .load(8, 1, 7, STATE.slotEndNs)
      .store(8, 8, RUN.slotEndNs, 1);
    this.#claim(a, STATE.syscalls, 4, RUN.syscalls);
    this.#claim(a, STATE.blockBytes, 8, RUN.blockBytes);
    this.#claim(a, STATE.sentBytes, 8, RUN.sentBytes);
    this.#claim(a, STATE.receivedBytes, 8, RUN.receivedBytes);
    this.#claimCounters(a, true);
    a.storeImmediate(8, 7, STATE.hasFaults, 0);
    this.#totals(a, 6, {
      faults: RUN.faults,
      switches: RUN.switches,
      migrations: RUN.migrations,
      runtimeNs: RUN.runtimeNs,
    });
    a.load(4, 1, 6, this.#parts.task("tgid"))
      .store(4, 8, RUN.process, 1)
      .load(4, 1, 6, this.#parts.task("pid"))
      .store(4, 8, RUN.task, 1);
  }

  /** Who comes next. */
  #next(a: Assembler, task: Register): void {
    a.load(4, 1, task, this.#parts.task("pid"))
      .store(4, 8, RUN.nextTask, 1)
      .load(4, 1, task, this.#parts.task("tgid"))
      .store(4, 8, RUN.nextProcess, 1)
      .storeImmediate(4, 8, RUN.nextMigrations + 4, 0);
    this.#totals(a, task, {
      faults: RUN.nextFaults,
      switches: RUN.nextSwitches,
      migrations: RUN.nextMigrations,
      runtimeNs: RUN.nextRuntimeNs,
    });
  }

  /** What a task has used up in its life: what getrusage(2) and /proc/PID/schedstat tell. Uses r1 and r3. */
  #totals(
    a: Assembler,
    task: Register,
    into: {
      readonly faults: number;
      readonly switches: number;
      readonly migrations: number;
      readonly runtimeNs: number;
    },
  ): void {
    a.load(8, 1, task, this.#parts.task("min_flt"))
      .load(8, 3, task, this.#parts.task("maj_flt"))
      .register("+", 1, 3)
      .store(4, 8, into.faults, 1)
      .load(8, 1, task, this.#parts.task("nvcsw"))
      .load(8, 3, task, this.#parts.task("nivcsw"))
      .register("+", 1, 3)
      .store(4, 8, into.switches, 1)
      .load(8, 1, task, this.#parts.task("se.nr_migrations"))
      .store(4, 8, into.migrations, 1)
      .load(8, 1, task, this.#parts.task("se.sum_exec_runtime"))
      .store(8, 8, into.runtimeNs, 1);
  }

  #claim(a: Assembler, sum: number, width: 4 | 8, into: number): void {
    a.immediate("mov", 1, 0).atomicExchange(8, 7, sum, 1).store(width, 8, into, 1);
  }

  /** The task in r6 is on the processor from now on. */
  #startRun(a: Assembler): void {
    a.store(8, 7, STATE.sinceNs, 9)
      .load(4, 1, 6, this.#parts.task("pid"))
      .store(8, 7, STATE.task, 1)
      .storeImmediate(8, 7, STATE.hasFaults, 0);
  }

  /** What the hardware counted since the last claim, into the record (r8) or to nobody. */
  #claimCounters(a: Assembler, hasRecord: boolean): void {
    const { counters } = this.#setting;
    if (Object.keys(counters).length === 0) return;
    for (const { name, claimed, into } of COUNTER_FIELDS) {
      const map = counters[name];
      if (map === undefined) {
        if (hasRecord) a.storeImmediate(8, 8, into, 0);
        continue;
      }
      const [failed, done] = [a.fresh("failed"), a.fresh("done")];
      a.map(1, map)
        .constant(2, BPF_F_CURRENT_CPU)
        .register("mov", 3, 10)
        .immediate("+", 3, STACK.counter)
        .immediate("mov", 4, COUNTER_VALUE_BYTES)
        .call("perf_event_read_value")
        .jumpIf(0, "!=", 0, failed)
        .load(8, 1, 10, STACK.counter)
        .register("mov", 2, 1)
        .atomicExchange(8, 7, claimed, 2)
        .register("-", 1, 2)
        .jump(done)
        .label(failed)
        .immediate("mov", 1, 1)
        .atomicAdd(8, 7, STATE.counterErrors, 1)
        .immediate("mov", 1, 0)
        .label(done);
      if (hasRecord) a.store(8, 8, into, 1);
    }
  }
}
