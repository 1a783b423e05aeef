/**
 * A small assembler for eBPF. One instruction is 8 bytes (Linux: Documentation/bpf/standardization/instruction-set.rst):
 *
 *   byte 0   opcode: class in bits 0-2, source (immediate or register) or size in bits 3-4, operation above
 *   byte 1   destination register in bits 0-3, source register in bits 4-7
 *   byte 2   offset, 16 bits signed: of memory, or of a jump in instructions behind the next one
 *   byte 4   immediate, 32 bits signed
 *
 * A jump names a label; where it goes is filled in by `assemble`, and a label that is missing, set twice or out of reach
 * is an error there.
 */

/** r0: result; r1-r5: arguments, gone after a call; r6-r9: kept; r10: frame pointer, read only. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

/** Bytes of a load or store. */
export type Width = 1 | 2 | 4 | 8;

/** Helper functions by name (linux/bpf.h, `___BPF_FUNC_MAPPER`). */
export const HELPERS = {
  map_lookup_elem: 1,
  map_update_elem: 2,
  map_delete_elem: 3,
  ktime_get_ns: 5,
  get_smp_processor_id: 8,
  get_current_pid_tgid: 14,
  perf_event_read_value: 55,
  probe_read_kernel: 113,
  probe_read_kernel_str: 115,
  ringbuf_reserve: 131,
  ringbuf_submit: 132,
  get_current_task_btf: 158,
} as const;

/** Conditions of a jump, with their operation bits. Unsigned, but for those that begin with "s". */
export const CONDITIONS = {
  "==": 0x10,
  ">": 0x20,
  ">=": 0x30,
  "&": 0x40,
  "!=": 0x50,
  "s>": 0x60,
  "s>=": 0x70,
  "<": 0xa0,
  "<=": 0xb0,
  "s<": 0xc0,
  "s<=": 0xd0,
} as const;

/** Arithmetic in 64 bits, with its operation bits. Division and remainder are unsigned. */
export const OPERATIONS = {
  "+": 0x00,
  "-": 0x10,
  "*": 0x20,
  "/": 0x30,
  "|": 0x40,
  "&": 0x50,
  "<<": 0x60,
  ">>": 0x70,
  "%": 0x90,
  "^": 0xa0,
  mov: 0xb0,
} as const;

const SIZE_BITS: { readonly [width in Width]: number } = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 };

const CLASS = { LD: 0x00, LDX: 0x01, ST: 0x02, STX: 0x03, JMP: 0x05, ALU64: 0x07 } as const;
const MODE_MEM = 0x60;
const MODE_ATOMIC = 0xc0;
const FROM_REGISTER = 0x08;
const CALL = 0x80;
const EXIT = 0x90;
/** Source register of a 16 byte load: what its immediate means. */
const PSEUDO_MAP_FD = 1;
const PSEUDO_MAP_VALUE = 2;
const FETCH = 0x01;
const ATOMIC_XCHG = 0xe0 | FETCH;

interface Instruction {
  readonly opcode: number;
  readonly destination: number;
  readonly source: number;
  readonly offset: number;
  readonly immediate: number;
  /** Where a jump goes. */
  readonly label?: string;
}

export class Assembler {
  readonly #instructions: Instruction[] = [];
  readonly #labels = new Map<string, number>();
  #made = 0;

  /** Names the next instruction. @throws Error if there is one of that name already */
  label(name: string): this {
    if (this.#labels.has(name)) throw new Error(`label ${name} is set twice`);
    this.#labels.set(name, this.#instructions.length);
    return this;
  }

  /** A name for a label that no other one has: for pieces of code that are used several times. */
  fresh(name: string): string {
    this.#made += 1;
    return `${name}#${this.#made}`;
  }

  /** `destination` = `destination` operation immediate; `mov` sets it. The immediate is extended with its sign. */
  immediate(operation: keyof typeof OPERATIONS, destination: Register, value: number): this {
    return this.#add(CLASS.ALU64 | OPERATIONS[operation], destination, 0, 0, value);
  }

  /** `destination` = `destination` operation `source`; `mov` copies. */
  register(operation: keyof typeof OPERATIONS, destination: Register, source: Register): this {
    return this.#add(CLASS.ALU64 | FROM_REGISTER | OPERATIONS[operation], destination, source, 0, 0);
  }

  /** `destination` = memory at `base + offset`, not extended with a sign. */
  load(width: Width, destination: Register, base: Register, offset: number): this {
    return this.#add(CLASS.LDX | MODE_MEM | SIZE_BITS[width], destination, base, offset, 0);
  }

  /** Memory at `base + offset` = `source`. */
  store(width: Width, base: Register, offset: number, source: Register): this {
    return this.#add(CLASS.STX | MODE_MEM | SIZE_BITS[width], base, source, offset, 0);
  }

  /** Memory at `base + offset` = immediate, extended with its sign. */
  storeImmediate(width: Width, base: Register, offset: number, value: number): this {
    return this.#add(CLASS.ST | MODE_MEM | SIZE_BITS[width], base, 0, offset, value);
  }

  /** Memory at `base + offset` += `source`, in one step for whoever else does the same. */
  atomicAdd(width: 4 | 8, base: Register, offset: number, source: Register): this {
    return this.#add(CLASS.STX | MODE_ATOMIC | SIZE_BITS[width], base, source, offset, 0);
  }

  /** Swaps `source` and memory at `base + offset` in one step. Linux 5.12. */
  atomicExchange(width: 4 | 8, base: Register, offset: number, source: Register): this {
    return this.#add(CLASS.STX | MODE_ATOMIC | SIZE_BITS[width], base, source, offset, ATOMIC_XCHG);
  }

  /** `destination` = a constant of 64 bits. */
  constant(destination: Register, value: bigint): this {
    return this.#wide(destination, 0, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
  }

  /** `destination` = the map with this descriptor, for a helper. */
  map(destination: Register, descriptor: number): this {
    return this.#wide(destination, PSEUDO_MAP_FD, descriptor, 0);
  }

  /** `destination` = address of a byte of the one value of an array map. */
  mapValue(destination: Register, descriptor: number, offset: number): this {
    return this.#wide(destination, PSEUDO_MAP_VALUE, descriptor, offset);
  }

  jump(label: string): this {
    return this.#add(CLASS.JMP, 0, 0, 0, 0, label);
  }

  jumpIf(left: Register, condition: keyof typeof CONDITIONS, immediate: number, label: string): this {
    return this.#add(CLASS.JMP | CONDITIONS[condition], left, 0, 0, immediate, label);
  }

  jumpIfRegister(left: Register, condition: keyof typeof CONDITIONS, right: Register, label: string): this {
    return this.#add(CLASS.JMP | FROM_REGISTER | CONDITIONS[condition], left, right, 0, 0, label);
  }

  call(helper: keyof typeof HELPERS): this {
    return this.#add(CLASS.JMP | CALL, 0, 0, 0, HELPERS[helper]);
  }

  exit(): this {
    return this.#add(CLASS.JMP | EXIT, 0, 0, 0, 0);
  }

  /** The bytes, jumps filled in. @throws Error for a jump to nowhere, or one that is too far */
  assemble(): Buffer {
    const code = Buffer.alloc(this.#instructions.length * 8);
    for (const [index, { opcode, destination, source, offset, immediate, label }] of this.#instructions.entries()) {
      const at = index * 8;
      code[at] = opcode;
      code[at + 1] = (source << 4) | destination;
      code.writeInt16LE(label === undefined ? offset : this.#distance(index, label), at + 2);
      code.writeInt32LE(immediate | 0, at + 4);
    }
    return code;
  }

  #distance(from: number, label: string): number {
    const to = this.#labels.get(label);
    if (to === undefined) throw new Error(`a jump goes to the label ${label}, which is not set`);
    const distance = to - from - 1;
    if (distance < -0x8000 || distance > 0x7fff)
      throw new Error(`the jump to ${label} is too far: ${distance} instructions`);
    return distance;
  }

  #wide(destination: Register, kind: number, low: number, high: number): this {
    return this.#add(CLASS.LD | SIZE_BITS[8], destination, kind, 0, low).#add(0, 0, 0, 0, high);
  }

  #add(opcode: number, destination: number, source: number, offset: number, immediate: number, label?: string): this {
    if (offset < -0x8000 || offset > 0x7fff) throw new Error(`an offset of ${offset} does not fit 16 bits`);
    if (!Number.isInteger(immediate) || immediate < -(2 ** 31) || immediate >= 2 ** 32)
      throw new Error(`an immediate of ${immediate} does not fit 32 bits`);
    this.#instructions.push({ opcode, destination, source, offset, immediate, ...(label ? { label } : {}) });
    return this;
  }
}
