import { BPF_COMMANDS, type KernelCalls, KernelError, type MappedMemory } from "./kernel-calls.ts";

const PAGE_BYTES = 4096;
const COMMAND_NAMES = new Map<number, string>(Object.entries(BPF_COMMANDS).map(([name, value]) => [value, name]));

/**
 * A kernel that says yes to everything, keeps account of what is open and mapped, and fails where it is told to. Its memory
 * is a plain buffer; what is done with it after `unmap` is for the test to find out.
 */
export class FakeKernel implements KernelCalls {
  readonly pageBytes = PAGE_BYTES;
  readonly processors = 2;
  /** Each call that takes or gives back something, in order: "bpf(MAP_CREATE) 3", "close 3", "map 100000", "unmap 100000". */
  readonly log: string[] = [];
  readonly open = new Set<number>();
  readonly mapped = new Map<bigint, MappedMemory>();
  /** Calls so far that could have failed. */
  calls = 0;
  /** The number of the call that fails (from 1 on), and with what. */
  failAt: number | undefined;
  reason = "EPERM";
  /** So many times its verifier is interrupted. */
  interruptions = 0;
  nowNs = 1_000_000_000n;
  epochNs = 1_700_000_000_000_000_000n;
  /** Called for a program that is run on a processor. */
  onRun: (cpu: number) => void = () => {};
  #nextDescriptor = 3;
  #nextAddress = 0x100000n;

  bpf(command: number, attributes: Buffer): number {
    const name = `bpf(${COMMAND_NAMES.get(command) ?? command})`;
    this.#mayFail(name);
    if (command === BPF_COMMANDS.PROG_LOAD && this.interruptions > 0) {
      this.interruptions -= 1;
      throw new KernelError(name, "EAGAIN");
    }
    if (command === BPF_COMMANDS.PROG_TEST_RUN) {
      this.onRun(attributes.readUInt32LE(68));
      return 0;
    }
    if (command === BPF_COMMANDS.MAP_UPDATE_ELEM) return 0;
    return this.#opened(name);
  }

  perfEventOpen(): number {
    this.#mayFail("perf_event_open");
    return this.#opened("perf_event_open");
  }

  ioctl(): void {
    this.#mayFail("ioctl");
  }

  map(descriptor: number, _offset: number, byteLength: number): MappedMemory {
    this.#mayFail("mmap");
    if (!this.open.has(descriptor)) throw new Error(`${descriptor} is not open`);
    const memory = { address: this.#nextAddress, bytes: new ArrayBuffer(byteLength) };
    this.#nextAddress += BigInt(byteLength);
    this.mapped.set(memory.address, memory);
    this.log.push(`map ${memory.address.toString(16)}`);
    return memory;
  }

  unmap(memory: MappedMemory): void {
    if (!this.mapped.delete(memory.address)) throw new Error(`${memory.address.toString(16)} is unmapped twice`);
    this.log.push(`unmap ${memory.address.toString(16)}`);
  }

  close(descriptor: number): void {
    if (!this.open.delete(descriptor)) throw new Error(`${descriptor} is closed twice`);
    this.log.push(`close ${descriptor}`);
  }

  addressOf(): bigint {
    return 0x1000n;
  }

  realtimeNs(): bigint {
    return this.nowNs + this.epochNs;
  }

  monotonicNs(): bigint {
    return this.nowNs;
  }

  #opened(name: string): number {
    const descriptor = this.#nextDescriptor;
    this.#nextDescriptor += 1;
    this.open.add(descriptor);
    this.log.push(`${name} ${descriptor}`);
    return descriptor;
  }

  #mayFail(name: string): void {
    this.calls += 1;
    if (this.calls === this.failAt) throw new KernelError(name, this.reason);
  }
}
