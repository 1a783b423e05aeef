/** What is known of a process beside its numbers. */
export interface ProcessName {
  readonly comm: string;
  readonly cgroup: string;
}

const UNKNOWN: ProcessName = { comm: "", cgroup: "" };

/** More than the kernel keeps in mind; only reached when records of processes that went were lost. */
const MAX_PROCESSES = 131_072;
const MAX_CGROUPS = 16_384;

/**
 * Names and cgroups of processes, as the kernel tells of them: before the first record of a process, and again when one
 * changes. A process of which the record was lost has no name until the kernel tells of it once more.
 */
export class ProcessNames {
  readonly #processes = new Map<number, { readonly comm: string; readonly cgroupId: bigint; name?: ProcessName }>();
  readonly #cgroups = new Map<bigint, string>();
  /** Gone since the last `forgetGone`: their last slots may be open still. */
  #gone: number[] = [];
  /** Gone before that. */
  #forgotten: number[] = [];

  get size(): number {
    return this.#processes.size;
  }

  /** `path` of a cgroup, from its root. */
  tellCgroup(id: bigint, path: string): void {
    this.#cgroups.delete(id);
    this.#cgroups.set(id, path);
    if (this.#cgroups.size > MAX_CGROUPS) this.#cgroups.delete(this.#cgroups.keys().next().value!);
  }

  tellProcess(process: number, comm: string, cgroupId: bigint): void {
    this.#processes.delete(process);
    this.#processes.set(process, { comm, cgroupId });
    if (this.#processes.size > MAX_PROCESSES) this.#processes.delete(this.#processes.keys().next().value!);
  }

  /** It stays known until the second `forgetGone` from now. */
  tellGone(process: number): void {
    this.#gone.push(process);
  }

  /** Slots were closed: those that had gone before the last time have no open slot any more, and are forgotten. Returns them. */
  forgetGone(): readonly number[] {
    const forgotten = this.#forgotten;
    for (const process of forgotten) this.#processes.delete(process);
    this.#forgotten = this.#gone;
    this.#gone = [];
    return forgotten;
  }

  of(process: number): ProcessName {
    const entry = this.#processes.get(process);
    if (entry === undefined) return UNKNOWN;
    // The path of a cgroup comes behind the first process in it.
    if (entry.name === undefined || entry.name.cgroup === "")
      entry.name = { comm: entry.comm, cgroup: this.#cgroups.get(entry.cgroupId) ?? "" };
    return entry.name;
  }
}
