import { readFileSync } from "node:fs";
import { toError } from "../errors.ts";
import { Assembler } from "./assembler.ts";
import { Btf } from "./btf.ts";
import { isArchitectureKnown, type KernelCalls, KernelError } from "./kernel-calls.ts";
import { createMap } from "./maps.ts";
import { Ownership } from "./ownership.ts";
import { loadProgram } from "./programs.ts";

/** Where the kernel describes its types. */
export const BTF_PATH = "/sys/kernel/btf/vmlinux";

/** capabilities(7): the bits of those that matter here. */
const CAPABILITIES = { CAP_SYS_ADMIN: 21n, CAP_PERFMON: 38n, CAP_BPF: 39n } as const;

const HOW =
  "run it as root, or with these two and nothing else: AmbientCapabilities=CAP_BPF CAP_PERFMON in a systemd unit, capabilities.add in a container, setpriv on a shell";

/** Files of /proc and /sys as the checks read them; undefined: there is none. */
export type ReadKernelFile = (path: string) => string | undefined;

/** The kernel's types. @throws Error with what is missing, in a sentence */
export function readBtf(): Btf {
  let bytes: Buffer;
  try {
    bytes = readFileSync(BTF_PATH);
  } catch (error) {
    throw new Error(
      `time slots need a kernel that describes its types, and ${BTF_PATH} cannot be read (${toError(error).message}); take a kernel with CONFIG_DEBUG_INFO_BTF=y, as those of the distributions are since 2021`,
    );
  }
  return new Btf(bytes);
}

/**
 * Tries what time slots need: a ring buffer and a program on a BTF tracepoint, loaded and let go at once. Nothing is
 * attached.
 * @throws Error with what is missing, in a sentence
 */
export async function checkTimeSlots(
  load: () => Promise<KernelCalls>,
  read: ReadKernelFile = readKernelFile,
): Promise<void> {
  if (process.platform !== "linux" || !isArchitectureKnown())
    throw new Error(
      `time slots come from eBPF, which is there on Linux on x64, arm64, riscv64 and loong64 only, and this is ${process.platform} on ${process.arch}`,
    );
  const btf = readBtf();
  const calls = await load().catch((error: unknown) => {
    throw new Error(
      `time slots need the npm package koffi with its prebuilt library for this machine: ${toError(error).message}`,
    );
  });
  const btfId = btf.tracepoint("sched_switch");
  if (btfId === undefined)
    throw new Error("time slots need the tracepoint sched_switch, which this kernel does not have");
  const owned = new Ownership();
  try {
    createMap(calls, owned, {
      type: "RINGBUF",
      name: "tailrace_try",
      keyBytes: 0,
      valueBytes: 0,
      entries: calls.pageBytes,
    });
    const code = new Assembler().immediate("mov", 0, 0).exit().assemble();
    loadProgram(calls, owned, { name: "tailrace_try", type: "btf_tracepoint", code, btfId });
  } catch (error) {
    throw new Error(explainRefusal(error, read), { cause: error });
  } finally {
    owned.release();
  }
}

/** In a sentence, why the kernel refuses eBPF to this process. */
export function explainRefusal(error: unknown, read: ReadKernelFile = readKernelFile): string {
  const { message } = toError(error);
  if (!(error instanceof KernelError)) return message;
  const { reason } = error;
  if (reason === "ENOSYS") return `time slots need a kernel with eBPF (CONFIG_BPF_SYSCALL=y): ${message}`;
  if (reason === "EINVAL")
    return `time slots need Linux 5.15 or newer, and this kernel refuses what they are made of: ${message}`;
  if (reason !== "EPERM" && reason !== "EACCES") return `the kernel refuses eBPF: ${message}`;
  const missing = missingCapabilities(read("/proc/self/status") ?? "");
  if (missing.length > 0) {
    const disabled = read("/proc/sys/kernel/unprivileged_bpf_disabled")?.trim();
    const setting = disabled === undefined ? "" : ` (kernel.unprivileged_bpf_disabled is ${disabled})`;
    return `time slots come from eBPF, which needs CAP_BPF and CAP_PERFMON, and this process lacks ${missing.join(" and ")}${setting}; ${HOW}`;
  }
  const lockdown = /\[(\w+)\]/.exec(read("/sys/kernel/security/lockdown") ?? "")?.[1];
  if (lockdown !== undefined && lockdown !== "none")
    return `time slots come from eBPF, which reads the kernel's memory, and kernel lockdown (${lockdown}) forbids that; boot with lockdown=integrity at most`;
  return `this process has CAP_BPF and CAP_PERFMON, and the kernel still refuses eBPF (${message}): a container's seccomp filter or user namespace, or a security module, forbids it`;
}

/** Of the two capabilities, those that a process with this /proc/PID/status lacks. CAP_SYS_ADMIN stands for both. */
export function missingCapabilities(status: string): string[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  const has = (bit: bigint) => (effective & (1n << bit)) !== 0n;
  if (has(CAPABILITIES.CAP_SYS_ADMIN)) return [];
  return (["CAP_BPF", "CAP_PERFMON"] as const).filter((name) => !has(CAPABILITIES[name]));
}

function readKernelFile(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}
