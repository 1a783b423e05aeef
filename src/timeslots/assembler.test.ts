import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Assembler, CONDITIONS, HELPERS, OPERATIONS, type Register } from "./assembler.ts";

const hex = (assembler: Assembler) => assembler.assemble().toString("hex").match(/.{16}/g)!;

const register = () => fc.integer({ min: 0, max: 10 }) as fc.Arbitrary<Register>;
const offset = () => fc.integer({ min: -0x8000, max: 0x7fff });
const immediate = () => fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });

/** As the instruction set document lays it out, bit by bit. */
function encoded(opcode: number, destination: number, source: number, off: number, imm: number): string {
  const word =
    BigInt(opcode) |
    (BigInt(destination) << 8n) |
    (BigInt(source) << 12n) |
    (BigInt.asUintN(16, BigInt(off)) << 16n) |
    (BigInt.asUintN(32, BigInt(imm)) << 32n);
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(word);
  return bytes.toString("hex");
}

describe("Assembler", () => {
  it("encodes what the kernel's own macros encode", () => {
    // From linux/filter.h: BPF_MOV64_IMM(0, 1), BPF_MOV64_REG(6, 1), BPF_LDX_MEM(W, 1, 6, 8), BPF_STX_MEM(DW, 10, 2, -8),
    // BPF_ST_MEM(W, 8, 12, 1), BPF_ATOMIC_OP(DW, ADD, 7, 1, 64), BPF_ATOMIC_OP(DW, XCHG, 7, 1, 8), BPF_EMIT_CALL(5),
    // BPF_LD_MAP_FD(1, 3), BPF_LD_MAP_VALUE(1, 4, 128), BPF_EXIT_INSN()
    const a = new Assembler()
      .immediate("mov", 0, 1)
      .register("mov", 6, 1)
      .load(4, 1, 6, 8)
      .store(8, 10, -8, 2)
      .storeImmediate(4, 8, 12, 1)
      .atomicAdd(8, 7, 64, 1)
      .atomicExchange(8, 7, 8, 1)
      .call("ktime_get_ns")
      .map(1, 3)
      .mapValue(1, 4, 128)
      .exit();
    expect(hex(a)).toEqual([
      "b700000001000000",
      "bf16000000000000",
      "6161080000000000",
      "7b2af8ff00000000",
      "62080c0001000000",
      "db17400000000000",
      "db170800e1000000",
      "8500000005000000",
      "1811000003000000",
      "0000000000000000",
      "1821000004000000",
      "0000000080000000",
      "9500000000000000",
    ]);
  });

  it("lays out every instruction as the instruction set says", () => {
    fc.assert(
      fc.property(register(), register(), offset(), immediate(), (destination, source, off, imm) => {
        for (const [name, bits] of Object.entries(OPERATIONS) as [keyof typeof OPERATIONS, number][]) {
          expect(hex(new Assembler().immediate(name, destination, imm))).toEqual([
            encoded(0x07 | bits, destination, 0, 0, imm),
          ]);
          expect(hex(new Assembler().register(name, destination, source))).toEqual([
            encoded(0x0f | bits, destination, source, 0, 0),
          ]);
        }
        for (const [width, bits] of [
          [1, 0x10],
          [2, 0x08],
          [4, 0x00],
          [8, 0x18],
        ] as const) {
          expect(hex(new Assembler().load(width, destination, source, off))).toEqual([
            encoded(0x61 | bits, destination, source, off, 0),
          ]);
          expect(hex(new Assembler().store(width, destination, off, source))).toEqual([
            encoded(0x63 | bits, destination, source, off, 0),
          ]);
          expect(hex(new Assembler().storeImmediate(width, destination, off, imm))).toEqual([
            encoded(0x62 | bits, destination, 0, off, imm),
          ]);
        }
        const value = (BigInt(imm) << 32n) | BigInt(off >>> 0);
        const [low, high] = hex(new Assembler().constant(destination, value));
        const bytes = Buffer.from(low!.slice(8) + high!.slice(8), "hex");
        expect(bytes.readBigInt64LE()).toBe(BigInt.asIntN(64, value));
      }),
      { numRuns: 50 },
    );
  });

  it("sends jumps to their labels, forwards and backwards, whatever lies between", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom("short", "wide"), { maxLength: 20 }), fc.nat(20), (pieces, at) => {
        const where = Math.min(at, pieces.length);
        const a = new Assembler().label("start");
        let size = 0;
        for (const [index, piece] of pieces.entries()) {
          if (index === where) a.label("target");
          if (piece === "short") a.immediate("mov", 1, 0);
          else a.constant(1, 0n);
          size += piece === "short" ? 1 : 2;
        }
        if (where === pieces.length) a.label("target");
        const target = pieces.slice(0, where).reduce((sum, piece) => sum + (piece === "short" ? 1 : 2), 0);
        a.jump("target").jumpIf(1, "s<", 3, "start").jumpIfRegister(1, ">=", 2, "end").exit().label("end").exit();
        const code = a.assemble();
        const offsetOf = (instruction: number) => code.readInt16LE(instruction * 8 + 2);
        expect(offsetOf(size)).toBe(target - size - 1);
        expect(offsetOf(size + 1)).toBe(-size - 2);
        expect(offsetOf(size + 2)).toBe(1);
        expect(code[(size + 1) * 8]).toBe(0x05 | CONDITIONS["s<"]);
        expect(code[(size + 2) * 8]).toBe(0x0d | CONDITIONS[">="]);
      }),
    );
  });

  it("refuses labels that are missing or set twice, and what does not fit its field", () => {
    expect(() => new Assembler().jump("nowhere").assemble()).toThrow("the label nowhere, which is not set");
    expect(() => new Assembler().label("a").label("a")).toThrow("label a is set twice");
    expect(() => new Assembler().load(8, 1, 2, 40_000)).toThrow("an offset of 40000 does not fit 16 bits");
    expect(() => new Assembler().immediate("mov", 1, 2 ** 32)).toThrow("does not fit 32 bits");
    const far = new Assembler().jump("end");
    for (let count = 0; count < 33_000; count += 1) far.immediate("mov", 0, 0);
    expect(() => far.label("end").exit().assemble()).toThrow("the jump to end is too far");
    const names = new Assembler();
    expect(names.fresh("x")).not.toBe(names.fresh("x"));
  });

  it("knows helpers by the numbers of linux/bpf.h", () => {
    expect(HELPERS).toMatchObject({
      ktime_get_ns: 5,
      ringbuf_reserve: 131,
      ringbuf_submit: 132,
      get_current_task_btf: 158,
    });
  });
});
