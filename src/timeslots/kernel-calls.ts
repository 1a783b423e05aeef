import { readFileSync } from "node:fs";
import { hrtime } from "node:process";

/**
 * The system calls of this room, and nothing else of native code: npm koffi reaches them through libc. Behind an interface,
 * so that each of them can be made to fail in a test.
 */
export interface KernelCalls {
  /** Bytes of a page of memory. */
  readonly pageBytes: number;
  /** Processors that there can ever be; their numbers are below it. */
  readonly processors: number;
  /** bpf(2); returns a descriptor or 0. @throws KernelError */
  bpf(command: number, attributes: Buffer): number;
  /** perf_event_open(2) for all processes on one processor; returns a descriptor. @throws KernelError */
  perfEventOpen(attributes: Buffer, cpu: number): number;
  /** @throws KernelError */
  ioctl(descriptor: number, request: number, argument: number): void;
  /** mmap(2), shared. @throws KernelError */
  map(descriptor: number, offset: number, byteLength: number, isWritable: boolean): MappedMemory;
  /** munmap(2). @throws KernelError */
  unmap(memory: MappedMemory): void;
  /** @throws KernelError */
  close(descriptor: number): void;
  /** Where a buffer lies, for attributes that point to others. It must stay referenced until the call is over. */
  addressOf(buffer: Buffer): bigint;
  /** CLOCK_REALTIME, nanoseconds since the epoch. */
  realtimeNs(): bigint;
  /** CLOCK_MONOTONIC, nanoseconds: the clock of bpf_ktime_get_ns. */
  monotonicNs(): bigint;
}

/** Mapped memory. `bytes` is the memory itself and no copy: whoever touches it after `unmap` kills the process. */
export interface MappedMemory {
  readonly address: bigint;
  readonly bytes: ArrayBuffer;
}

/** A system call that failed. */
export class KernelError extends Error {
  /** Name of the call, such as "bpf(PROG_LOAD)". */
  readonly call: string;
  /** "EPERM", ...; "errno N" where it has no name here. */
  readonly reason: string;

  constructor(call: string, reason: string, detail = "") {
    super(`${call}: ${reason}${detail}`);
    this.name = "KernelError";
    this.call = call;
    this.reason = reason;
  }
}

/** bpf(2), perf_event_open(2): not in libc, so by their numbers. Only little-endian machines with 64 bits. */
const CALL_NUMBERS: { readonly [architecture: string]: { readonly bpf: number; readonly perfEventOpen: number } } = {
  x64: { bpf: 321, perfEventOpen: 298 },
  arm64: { bpf: 280, perfEventOpen: 241 },
  riscv64: { bpf: 280, perfEventOpen: 241 },
  loong64: { bpf: 280, perfEventOpen: 241 },
};

export const isArchitectureKnown = (): boolean => CALL_NUMBERS[process.arch] !== undefined;

/** bpf(2) commands (linux/bpf.h, `enum bpf_cmd`). */
export const BPF_COMMANDS = {
  MAP_CREATE: 0,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  PROG_LOAD: 5,
  PROG_TEST_RUN: 10,
  RAW_TRACEPOINT_OPEN: 17,
} as const;

const COMMAND_NAMES = new Map<number, string>(Object.entries(BPF_COMMANDS).map(([name, value]) => [value, name]));

/** linux/mman.h, perf_event_open(2). */
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const CLOCK_REALTIME = 0;
/** sigset_t of glibc and musl; SIG_SETMASK of Linux on all machines above. */
const SIGNAL_SET_BYTES = 128;
const SIG_SETMASK = 2;
const PERF_FLAG_FD_CLOEXEC = 8;
const ALL_PROCESSES = -1;
const NO_GROUP = -1;

const POSSIBLE_PATH = "/sys/devices/system/cpu/possible";

/** How many processors there can be, from a list of their numbers such as "0-3,8-11". */
export function processorsIn(list: string): number {
  const last = /(\d+)\s*$/.exec(list)?.[1];
  if (last === undefined)
    throw new KernelError("read", "EINVAL", `: ${POSSIBLE_PATH} is no list of processors: ${list}`);
  return Number(last) + 1;
}

/** The calls of the running kernel. Loaded on first use: native code is for those who need it. */
export async function loadKernelCalls(): Promise<KernelCalls> {
  const { default: koffi } = await import("koffi");
  const numbers = CALL_NUMBERS[process.arch];
  if (process.platform !== "linux" || numbers === undefined)
    throw new KernelError("bpf", "ENOSYS", `: there is none on ${process.platform} ${process.arch}`);
  const libc = koffi.load(null);
  const bpf = libc.func("long syscall(long number, long command, void *attributes, long size)");
  const perfEventOpen = libc.func(
    "long syscall(long number, void *attributes, int process, int cpu, int group, unsigned long flags)",
  );
  const ioctl = libc.func("int ioctl(int descriptor, unsigned long request, long argument)");
  const mmap = libc.func(
    "void *mmap(void *address, size_t length, int protection, int flags, int descriptor, int64_t offset)",
  );
  const munmap = libc.func("int munmap(void *address, size_t length)");
  const close = libc.func("int close(int descriptor)");
  const setSignalMask = libc.func("int pthread_sigmask(int how, const void *set, _Out_ void *before)");
  const clockGetTime = libc.func("int clock_gettime(int clock, _Out_ int64_t *time)");
  const pageBytes = Number(libc.func("int getpagesize()")());
  // Of numbers with two names (EAGAIN and EWOULDBLOCK) the first in the alphabet.
  const errors = Object.entries(koffi.os.errno).sort(([one], [other]) => (one < other ? 1 : -1));
  const names = new Map(errors.map(([name, value]) => [value, name]));
  const failed = (call: string, detail = "") => {
    const errno = koffi.errno();
    return new KernelError(call, names.get(errno) ?? `errno ${errno}`, detail);
  };

  return {
    pageBytes,
    processors: processorsIn(readFileSync(POSSIBLE_PATH, "latin1")),
    bpf(command, attributes) {
      // The verifier gives up when a signal comes (EAGAIN), as they do all the time under a profiler.
      const isLong = command === BPF_COMMANDS.PROG_LOAD;
      const before = Buffer.alloc(SIGNAL_SET_BYTES);
      if (isLong) setSignalMask(SIG_SETMASK, Buffer.alloc(SIGNAL_SET_BYTES, 0xff), before);
      const result = Number(bpf(numbers.bpf, command, attributes, attributes.length));
      const error = result < 0 ? failed(`bpf(${COMMAND_NAMES.get(command) ?? command})`) : undefined;
      if (isLong) setSignalMask(SIG_SETMASK, before, null);
      if (error !== undefined) throw error;
      return result;
    },
    perfEventOpen(attributes, cpu) {
      const call = perfEventOpen(numbers.perfEventOpen, attributes, ALL_PROCESSES, cpu, NO_GROUP, PERF_FLAG_FD_CLOEXEC);
      const descriptor = Number(call);
      if (descriptor < 0) throw failed("perf_event_open");
      return descriptor;
    },
    ioctl(descriptor, request, argument) {
      if (ioctl(descriptor, request, argument) < 0) throw failed("ioctl");
    },
    map(descriptor, offset, byteLength, isWritable) {
      const protection = isWritable ? PROT_READ | PROT_WRITE : PROT_READ;
      const address: bigint = BigInt.asUintN(64, mmap(null, byteLength, protection, MAP_SHARED, descriptor, offset));
      // MAP_FAILED is -1.
      if (address === 0xffff_ffff_ffff_ffffn) throw failed("mmap", `: ${byteLength} bytes`);
      return { address, bytes: koffi.view(address, byteLength) };
    },
    unmap({ address, bytes }) {
      if (munmap(address, bytes.byteLength) < 0) throw failed("munmap");
    },
    close(descriptor) {
      if (close(descriptor) < 0) throw failed("close");
    },
    addressOf: (buffer) => koffi.address(buffer),
    realtimeNs() {
      const time = new BigInt64Array(2);
      clockGetTime(CLOCK_REALTIME, time);
      return time[0]! * 1_000_000_000n + time[1]!;
    },
    monotonicNs: () => hrtime.bigint(),
  };
}
