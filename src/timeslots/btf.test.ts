import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { BtfBuilder, kernelBtf } from "./btf.test-kit.ts";
import { Btf, BtfError } from "./btf.ts";
import { BTF_PATH, readBtf } from "./requirements.ts";

describe("Btf", () => {
  it("finds a field through structures, unions without a name, typedefs and qualifiers", () => {
    const builder = new BtfBuilder();
    const u32 = builder.int("int", 4);
    const deep = builder.struct("deep", 8, [
      ["a", u32, 0],
      ["b", u32, 32],
    ]);
    const wrapped = builder.typedef("deep_t", builder.constant(deep));
    const nameless = builder.union("", 8, [
      ["x", u32, 0],
      ["inner", wrapped, 0],
    ]);
    builder.struct("outer", 32, [
      ["first", u32, 0],
      ["", nameless, 64],
      ["list", builder.array(u32, u32, 3), 128],
    ]);
    const btf = new Btf(builder.bytes());
    expect(btf.field("outer", "first")).toEqual({ offset: 0, size: 4 });
    expect(btf.field("outer", "x")).toEqual({ offset: 8, size: 4 });
    expect(btf.field("outer", "inner.b")).toEqual({ offset: 12, size: 4 });
    expect(btf.field("outer", "list")).toEqual({ offset: 16, size: 12 });
    expect(btf.firstField("outer", "new_name", "first")).toEqual({ offset: 0, size: 4 });
  });

  it("names what the kernel does not have", () => {
    const btf = new Btf(kernelBtf());
    expect(() => btf.field("task_strukt", "pid")).toThrow(new BtfError("this kernel has no type struct task_strukt"));
    expect(() => btf.field("task_struct", "se.nothing")).toThrow(
      "this kernel has no field se.nothing in struct task_struct",
    );
    expect(() => btf.firstField("task_struct", "one", "two")).toThrow("no field one in struct task_struct");
    expect(() => btf.tracepointArguments("nothing")).toThrow("this kernel has no tracepoint nothing");
    expect(btf.tracepoint("nothing")).toBeUndefined();
    expect(btf.enumerator("NOTHING")).toBeUndefined();
  });

  it("refuses bit fields, which no load can read", () => {
    const builder = new BtfBuilder();
    const u32 = builder.int("int", 4);
    builder.struct("flags", 4, [["second", u32, (1 << 24) | 3]], 1);
    builder.struct("whole", 8, [["second", u32, 32]], 1);
    const btf = new Btf(builder.bytes());
    expect(() => btf.field("flags", "second")).toThrow("is a bit field");
    expect(btf.field("whole", "second")).toEqual({ offset: 4, size: 4 });
  });

  it("refuses what is no BTF, is cut off, or has kinds that came later", () => {
    expect(() => new Btf(Buffer.alloc(10))).toThrow("this is no BTF");
    expect(() => new Btf(kernelBtf().subarray(0, 200))).toThrow("this BTF is cut off");
    const builder = new BtfBuilder();
    builder.add(30, "new", 0, 0);
    expect(() => new Btf(builder.bytes())).toThrow("a kind of type that is not known: 30");
  });

  it("counts the arguments of tracepoints and knows the values of names", () => {
    const btf = new Btf(kernelBtf());
    expect(btf.tracepointArguments("sched_switch")).toBe(4);
    expect(btf.enumerator("BIO_CLONED")).toBe(1);
  });

  it.skipIf(!existsSync(BTF_PATH))("reads what the running kernel says of itself", () => {
    const btf = readBtf();
    expect(btf.field("task_struct", "comm").size).toBe(16);
    expect(btf.field("task_struct", "pid").size).toBe(4);
    expect(btf.tracepointArguments("sched_switch")).toBeGreaterThanOrEqual(3);
  });
});
