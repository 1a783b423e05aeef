import { describe, expect, it } from "vitest";
import { BtfError } from "./btf.ts";
import { FakeKernel } from "./kernel-calls.test-kit.ts";
import { KernelError } from "./kernel-calls.ts";
import { checkTimeSlots, explainRefusal, missingCapabilities } from "./requirements.ts";

const status = (capabilities: string) => `Name:\tnode\nCapEff:\t${capabilities}\nCapBnd:\t000001ffffffffff\n`;
const NONE = "0000000000000000";
const BPF = "0000008000000000";
const PERFMON = "0000004000000000";
const BOTH = "000000c000000000";
const ADMIN = "0000000000200000";

describe("what time slots need", () => {
  it("are two capabilities, or the one that stands for both", () => {
    expect(missingCapabilities(status(NONE))).toEqual(["CAP_BPF", "CAP_PERFMON"]);
    expect(missingCapabilities(status(BPF))).toEqual(["CAP_PERFMON"]);
    expect(missingCapabilities(status(PERFMON))).toEqual(["CAP_BPF"]);
    expect(missingCapabilities(status(BOTH))).toEqual([]);
    expect(missingCapabilities(status(ADMIN))).toEqual([]);
    expect(missingCapabilities("")).toEqual(["CAP_BPF", "CAP_PERFMON"]);
  });

  it("is told in one sentence where it is missing: capabilities with the kernel's setting, lockdown, filters", () => {
    const refused = new KernelError("bpf(MAP_CREATE)", "EPERM");
    const files = (more: { readonly [path: string]: string }) => (path: string) => more[path];
    expect(
      explainRefusal(
        refused,
        files({ "/proc/self/status": status(BPF), "/proc/sys/kernel/unprivileged_bpf_disabled": "2\n" }),
      ),
    ).toMatch(/lacks CAP_PERFMON \(kernel\.unprivileged_bpf_disabled is 2\); run it as root, or/);
    const lockdown = {
      "/proc/self/status": status(BOTH),
      "/sys/kernel/security/lockdown": "none integrity [confidentiality]",
    };
    expect(explainRefusal(refused, files(lockdown))).toMatch(/kernel lockdown \(confidentiality\) forbids that/);
    const filtered = { "/proc/self/status": status(BOTH), "/sys/kernel/security/lockdown": "[none] integrity" };
    expect(explainRefusal(refused, files(filtered))).toMatch(/seccomp filter or user namespace/);
    expect(explainRefusal(new KernelError("bpf(MAP_CREATE)", "ENOSYS"))).toMatch(/CONFIG_BPF_SYSCALL/);
    expect(explainRefusal(new KernelError("bpf(PROG_LOAD)", "EINVAL"))).toMatch(/Linux 5\.15 or newer/);
    expect(explainRefusal(new KernelError("mmap", "ENOMEM"))).toBe("the kernel refuses eBPF: mmap: ENOMEM");
    expect(explainRefusal(new BtfError("this kernel has no type struct x"))).toBe("this kernel has no type struct x");
  });

  it("is tried before anything is attached, and leaves nothing open, whether it works or not", async () => {
    for (const failAt of [undefined, 1, 2]) {
      const kernel = new FakeKernel();
      kernel.failAt = failAt;
      const trying = checkTimeSlots(
        async () => kernel,
        () => undefined,
      );
      if (failAt === undefined) await trying;
      else await expect(trying).rejects.toThrow("this process lacks CAP_BPF and CAP_PERFMON");
      expect(kernel.open.size).toBe(0);
      expect(kernel.log.some((line) => line.startsWith("bpf(RAW_TRACEPOINT_OPEN)"))).toBe(false);
    }
  });

  it("includes the library that reaches the kernel", async () => {
    await expect(checkTimeSlots(() => Promise.reject(new Error("Cannot find package 'koffi'")))).rejects.toThrow(
      "time slots need the npm package koffi",
    );
  });
});
