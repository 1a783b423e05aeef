import type { Btf } from "./btf.ts";
import { BPF_COMMANDS, type KernelCalls, KernelError } from "./kernel-calls.ts";
import type { Ownership } from "./ownership.ts";

/** linux/bpf.h, `enum bpf_prog_type` and `enum bpf_attach_type`. */
const PROGRAM_TYPES = { perf_event: 7, raw_tracepoint: 17, btf_tracepoint: 26 } as const;
const BPF_TRACE_RAW_TP = 23;
/** Run on another processor: by an interrupt there. */
const BPF_F_TEST_RUN_ON_CPU = 1;

const ATTRIBUTE_BYTES = 148;
const NAME_CHARACTERS = 15;
const LOG_BYTES = 1 << 20;
const LOAD_TURNS = 20;
/** The last lines say why. */
const LOG_LINES_SHOWN = 20;
/** Helpers that follow kernel pointers are open to programs under the GPL; ours are free under either licence. */
const LICENSE = Buffer.from("Dual MIT/GPL\0");
/** linux/perf_event.h: _IOW('$', 8, __u32) and _IO('$', 0). */
const PERF_EVENT_IOC_SET_BPF = 0x40042408;
const PERF_EVENT_IOC_ENABLE = 0x2400;
const PERF_ATTRIBUTE_BYTES = 136;

/** A program that the kernel refused; `log` is what its verifier said. */
export class VerifierError extends Error {
  readonly log: string;

  constructor(name: string, reason: string, log: string) {
    const lines = log.trimEnd().split("\n").slice(-LOG_LINES_SHOWN);
    super(`the kernel refuses the eBPF program ${name} (${reason})${log === "" ? "" : `:\n${lines.join("\n")}`}`);
    this.name = "VerifierError";
    this.log = log;
  }
}

export interface ProgramDefinition {
  /** At most 15 characters. */
  readonly name: string;
  readonly type: keyof typeof PROGRAM_TYPES;
  readonly code: Buffer;
  /** Of a `btf_tracepoint`: id of its type, from `Btf.tracepoint`. */
  readonly btfId?: number;
}

/**
 * Loads a program; its descriptor. Asked without a log first: writing it takes longer than all of the check.
 * @throws VerifierError where the program is wrong, KernelError where this process may not load any
 */
export function loadProgram(calls: KernelCalls, owned: Ownership, definition: ProgramDefinition): number {
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(PROGRAM_TYPES[definition.type], 0);
  attributes.writeUInt32LE(definition.code.length / 8, 4);
  attributes.writeBigUInt64LE(calls.addressOf(definition.code), 8);
  attributes.writeBigUInt64LE(calls.addressOf(LICENSE), 16);
  attributes.write(definition.name.slice(0, NAME_CHARACTERS), 48, "latin1");
  if (definition.type === "btf_tracepoint") {
    attributes.writeUInt32LE(BPF_TRACE_RAW_TP, 68);
    attributes.writeUInt32LE(definition.btfId ?? 0, 108);
  }
  const own = (descriptor: number) => owned.own(descriptor, (open) => calls.close(open));
  const load = () => own(patiently(() => calls.bpf(BPF_COMMANDS.PROG_LOAD, attributes)));
  try {
    return load();
  } catch (error) {
    if (!(error instanceof KernelError) || error.reason === "EPERM") throw error;
    const log = Buffer.alloc(LOG_BYTES);
    attributes.writeUInt32LE(1, 24);
    attributes.writeUInt32LE(log.length, 28);
    attributes.writeBigUInt64LE(calls.addressOf(log), 32);
    try {
      // What failed once may work now (ENOMEM): then it is loaded.
      return load();
    } catch (again) {
      if (!(again instanceof KernelError)) throw again;
      throw new VerifierError(definition.name, again.reason, log.toString("latin1", 0, log.indexOf(0)));
    }
  }
}

/** The verifier gives up when a signal comes that could not be held off. */
function patiently(load: () => number): number {
  for (let turn = 1; ; turn += 1) {
    try {
      return load();
    } catch (error) {
      if (turn === LOAD_TURNS || !(error instanceof KernelError) || error.reason !== "EAGAIN") throw error;
    }
  }
}

/** Attaches a program to a raw tracepoint, or (`name` undefined) to the tracepoint it was loaded for. @throws KernelError */
export function attachTracepoint(
  calls: KernelCalls,
  owned: Ownership,
  program: number,
  name: string | undefined,
): number {
  const nameBytes = name === undefined ? undefined : Buffer.from(`${name}\0`);
  const attributes = Buffer.alloc(24);
  if (nameBytes !== undefined) attributes.writeBigUInt64LE(calls.addressOf(nameBytes), 0);
  attributes.writeUInt32LE(program, 8);
  // Closing it detaches the program; the kernel waits for those that run.
  return owned.own(calls.bpf(BPF_COMMANDS.RAW_TRACEPOINT_OPEN, attributes), (link) => calls.close(link));
}

/** Loads a program for a BTF tracepoint and attaches it; `attached` owns the link. @throws VerifierError, KernelError */
export function traceWith(
  calls: KernelCalls,
  owned: Ownership,
  attached: Ownership,
  btf: Btf,
  options: { readonly name: string; readonly tracepoint: string; readonly code: Buffer },
): void {
  const btfId = btf.tracepoint(options.tracepoint);
  if (btfId === undefined) throw new KernelError("bpf", "ENOENT", `: no tracepoint ${options.tracepoint}`);
  const { name, code } = options;
  const program = loadProgram(calls, owned, { name, type: "btf_tracepoint", code, btfId });
  attachTracepoint(calls, attached, program, undefined);
}

/** Runs a raw tracepoint program on a processor, once; resolves when it is through. @throws KernelError (ENXIO: offline) */
export function runOn(calls: KernelCalls, program: number, cpu: number): void {
  const attributes = Buffer.alloc(80);
  attributes.writeUInt32LE(program, 0);
  attributes.writeUInt32LE(BPF_F_TEST_RUN_ON_CPU, 64);
  attributes.writeUInt32LE(cpu, 68);
  calls.bpf(BPF_COMMANDS.PROG_TEST_RUN, attributes);
}

/** A counter of one processor, of all processes. `type` and `config` as in perf_event_open(2). @throws KernelError */
export function openCounter(
  calls: KernelCalls,
  owned: Ownership,
  cpu: number,
  event: {
    readonly type: number;
    readonly config: number;
    /** A sample after so many; for a program that runs at each. */
    readonly samplePeriod?: number;
    /** Always on the hardware, or not at all. */
    readonly isPinned?: boolean;
  },
): number {
  const attributes = Buffer.alloc(PERF_ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(event.type, 0);
  attributes.writeUInt32LE(PERF_ATTRIBUTE_BYTES, 4);
  attributes.writeBigUInt64LE(BigInt(event.config), 8);
  attributes.writeBigUInt64LE(BigInt(event.samplePeriod ?? 0), 16);
  // Bit 2 of the flags: pinned.
  attributes.writeUInt32LE(event.isPinned === true ? 4 : 0, 40);
  return owned.own(calls.perfEventOpen(attributes, cpu), (descriptor) => calls.close(descriptor));
}

/** Runs `program` at each sample of a counter. @throws KernelError */
export function attachToCounter(calls: KernelCalls, counter: number, program: number): void {
  calls.ioctl(counter, PERF_EVENT_IOC_SET_BPF, program);
  calls.ioctl(counter, PERF_EVENT_IOC_ENABLE, 0);
}
