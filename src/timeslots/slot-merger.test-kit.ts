import type { RecordMemory } from "./record-memory.ts";
import { CGROUP, COMMON, GONE, PROCESS, RECORD, RUN, RUN_FLAGS, WAKE } from "./shared-layout.ts";

/** What a task has used up in its life. */
export interface Totals {
  faults: number;
  switches: number;
  migrations: number;
  runtimeNs: number;
}

export const NO_TOTALS: Totals = { faults: 0, switches: 0, migrations: 0, runtimeNs: 0 };

export interface RunFields {
  readonly cpu: number;
  readonly timeNs: bigint;
  /** 0: not known. */
  readonly sinceNs: bigint;
  readonly slotEndNs: bigint;
  readonly task: number;
  readonly process: number;
  readonly totals: Totals;
  readonly syscalls?: number;
  readonly blockBytes?: number;
  readonly sentBytes?: number;
  readonly receivedBytes?: number;
  readonly cycles?: number;
}

/** Records as the programs in the kernel write them, each in memory of its own. */
export class RecordMaker {
  switched(
    run: RunFields & {
      readonly flags?: keyof typeof RUN_FLAGS | undefined;
      readonly nextTask: number;
      readonly nextProcess: number;
      readonly nextTotals: Totals;
    },
  ): RecordMemory {
    return this.#run(RECORD.SWITCH, run, (data) => {
      data.setUint32(RUN.flags, run.flags === undefined ? 0 : RUN_FLAGS[run.flags], true);
      data.setUint32(RUN.nextTask, run.nextTask, true);
      data.setUint32(RUN.nextProcess, run.nextProcess, true);
      data.setUint32(RUN.nextFaults, run.nextTotals.faults, true);
      data.setUint32(RUN.nextSwitches, run.nextTotals.switches, true);
      data.setUint32(RUN.nextMigrations, run.nextTotals.migrations, true);
      data.setBigUint64(RUN.nextRuntimeNs, BigInt(run.nextTotals.runtimeNs), true);
    });
  }

  sums(run: RunFields): RecordMemory {
    return this.#run(RECORD.SUMS, run, () => {});
  }

  woke(cpu: number, timeNs: bigint, task: number, process: number, isNew = false): RecordMemory {
    return this.#record(isNew ? RECORD.NEW : RECORD.WAKE, cpu, timeNs, WAKE.byteLength, (data) => {
      data.setUint32(WAKE.task, task, true);
      data.setUint32(WAKE.process, process, true);
    });
  }

  process(process: number, comm: string, cgroupId: bigint): RecordMemory {
    return this.#record(RECORD.PROCESS, 0, 0n, PROCESS.byteLength, (data, bytes) => {
      data.setUint32(PROCESS.process, process, true);
      data.setBigUint64(PROCESS.cgroupId, cgroupId, true);
      bytes.write(comm, PROCESS.comm);
    });
  }

  /** `names` from the leaf up. */
  cgroup(id: bigint, names: readonly string[]): RecordMemory {
    return this.#record(RECORD.CGROUP, 0, 0n, CGROUP.byteLength, (data, bytes) => {
      data.setBigUint64(CGROUP.cgroupId, id, true);
      for (const [level, name] of names.entries()) bytes.write(name, CGROUP.names + level * CGROUP.nameBytes);
    });
  }

  gone(process: number): RecordMemory {
    return this.#record(RECORD.GONE, 0, 0n, GONE.byteLength, (data) => data.setUint32(GONE.process, process, true));
  }

  #run(kind: number, run: RunFields, more: (data: DataView) => void): RecordMemory {
    return this.#record(kind, run.cpu, run.timeNs, RUN.byteLengthWithCounters, (data) => {
      data.setBigUint64(RUN.sinceNs, run.sinceNs, true);
      data.setBigUint64(RUN.slotEndNs, run.slotEndNs, true);
      data.setUint32(RUN.task, run.task, true);
      data.setUint32(RUN.process, run.process, true);
      data.setUint32(RUN.faults, run.totals.faults, true);
      data.setUint32(RUN.switches, run.totals.switches, true);
      data.setUint32(RUN.migrations, run.totals.migrations, true);
      data.setBigUint64(RUN.runtimeNs, BigInt(run.totals.runtimeNs), true);
      data.setUint32(RUN.syscalls, run.syscalls ?? 0, true);
      data.setBigUint64(RUN.blockBytes, BigInt(run.blockBytes ?? 0), true);
      data.setBigUint64(RUN.sentBytes, BigInt(run.sentBytes ?? 0), true);
      data.setBigUint64(RUN.receivedBytes, BigInt(run.receivedBytes ?? 0), true);
      data.setBigUint64(RUN.cycles, BigInt(run.cycles ?? 0), true);
      more(data);
    });
  }

  #record(
    kind: number,
    cpu: number,
    timeNs: bigint,
    byteLength: number,
    fill: (data: DataView, bytes: Buffer) => void,
  ): RecordMemory {
    const memory = new ArrayBuffer(byteLength);
    const data = new DataView(memory);
    data.setBigUint64(COMMON.timeNs, timeNs, true);
    data.setUint32(COMMON.kind, kind | (cpu << 8), true);
    fill(data, Buffer.from(memory));
    return { words: new Uint32Array(memory), bytes: new Uint8Array(memory) };
  }
}
