/**
 * The kernel's own description of its types (BTF, Linux: Documentation/bpf/btf.rst), as it lies at
 * /sys/kernel/btf/vmlinux. From it come the offsets of fields, so that one build runs on many kernels.
 *
 *   header | types, one behind the other, ids from 1 | strings, each ended by a zero byte
 *   type = name offset, info (kind in bits 24-28, count in bits 0-15, flag in bit 31), size or type, then what its kind adds
 */

const KIND = {
  INT: 1,
  PTR: 2,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  FWD: 7,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC: 12,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  FLOAT: 16,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
} as const;

/** Bytes that follow the 12 of every type: `fixed`, and `each` times its count. */
const EXTRA: { readonly [kind: number]: { readonly fixed: number; readonly each: number } } = {
  [KIND.INT]: { fixed: 4, each: 0 },
  [KIND.ARRAY]: { fixed: 12, each: 0 },
  [KIND.STRUCT]: { fixed: 0, each: 12 },
  [KIND.UNION]: { fixed: 0, each: 12 },
  [KIND.ENUM]: { fixed: 0, each: 8 },
  [KIND.FUNC_PROTO]: { fixed: 0, each: 8 },
  [KIND.VAR]: { fixed: 4, each: 0 },
  [KIND.DATASEC]: { fixed: 0, each: 12 },
  [KIND.DECL_TAG]: { fixed: 4, each: 0 },
  [KIND.ENUM64]: { fixed: 0, each: 12 },
};

const MAGIC = 0xeb9f;
/** Kinds that change nothing about how a type lies in memory. */
const TRANSPARENT: ReadonlySet<number> = new Set([
  KIND.TYPEDEF,
  KIND.VOLATILE,
  KIND.CONST,
  KIND.RESTRICT,
  KIND.TYPE_TAG,
]);

/** The kernel does not have what was asked for; the message names it. */
export class BtfError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "BtfError";
  }
}

/** A field of a structure. */
export interface Field {
  /** From the start of the structure, bytes. */
  readonly offset: number;
  /** Bytes; undefined for what has no fixed size. */
  readonly size: number | undefined;
}

export class Btf {
  readonly #bytes: Buffer;
  readonly #stringsAt: number;
  /** Where each type lies; index 0 is `void`. */
  readonly #positions: number[] = [0];
  readonly #structs = new Map<string, number>();
  readonly #typedefs = new Map<string, number>();

  /** @throws BtfError if these bytes are none, or of a kind that is not known here */
  constructor(bytes: Buffer) {
    if (bytes.length < 24 || bytes.readUInt16LE(0) !== MAGIC)
      throw new BtfError("this is no BTF of a little-endian kernel: its first two bytes are wrong");
    const headerBytes = bytes.readUInt32LE(4);
    const typesAt = headerBytes + bytes.readUInt32LE(8);
    const typesEnd = typesAt + bytes.readUInt32LE(12);
    this.#stringsAt = headerBytes + bytes.readUInt32LE(16);
    if (typesEnd > bytes.length || this.#stringsAt + bytes.readUInt32LE(20) > bytes.length)
      throw new BtfError(`this BTF is cut off: ${bytes.length} bytes`);
    this.#bytes = bytes;
    for (let at = typesAt; at < typesEnd; ) at = this.#note(at);
  }

  /** Id of the type that a BTF tracepoint is attached by; undefined if the kernel has no such tracepoint. */
  tracepoint(name: string): number | undefined {
    return this.#typedefs.get(`btf_trace_${name}`);
  }

  /** How many arguments a tracepoint hands to a program. @throws BtfError */
  tracepointArguments(name: string): number {
    // typedef void (*btf_trace_NAME)(void *, arguments...)
    const id = this.tracepoint(name);
    const pointer = id === undefined ? undefined : this.#resolved(id);
    const proto = pointer === undefined ? undefined : this.#referred(pointer);
    if (proto === undefined || this.#kind(proto) !== KIND.FUNC_PROTO)
      throw new BtfError(`this kernel has no tracepoint ${name}`);
    return this.#count(proto) - 1;
  }

  /**
   * Where a field lies: `path` is its name, or names joined by dots through structures that lie inside of each other.
   * @throws BtfError naming what is missing
   */
  field(struct: string, path: string): Field {
    let id = this.#structs.get(struct);
    if (id === undefined) throw new BtfError(`this kernel has no type struct ${struct}`);
    let offset = 0;
    for (const name of path.split(".")) {
      const found = this.#member(id, name);
      if (found === undefined) throw new BtfError(`this kernel has no field ${path} in struct ${struct}`);
      if (found.bits % 8 !== 0) throw new BtfError(`the field ${path} of struct ${struct} is a bit field`);
      offset += found.bits / 8;
      id = this.#resolved(found.type);
    }
    return { offset, size: this.#size(id) };
  }

  /** The first of several fields that the kernel has: names change over the years. @throws BtfError naming the first */
  firstField(struct: string, ...paths: readonly [string, ...string[]]): Field {
    for (const path of paths) {
      try {
        return this.field(struct, path);
      } catch (error) {
        if (!(error instanceof BtfError)) throw error;
      }
    }
    return this.field(struct, paths[0]);
  }

  /** True if the kernel has such a field. */
  has(struct: string, path: string): boolean {
    try {
      this.field(struct, path);
      return true;
    } catch {
      return false;
    }
  }

  /** The value of a name in any enumeration; undefined if there is none. Looks at all types: for few names. */
  enumerator(name: string): number | undefined {
    for (let id = 1; id < this.#positions.length; id += 1) {
      const kind = this.#kind(id);
      if (kind !== KIND.ENUM && kind !== KIND.ENUM64) continue;
      const each = EXTRA[kind]!.each;
      for (let index = 0; index < this.#count(id); index += 1) {
        const at = this.#positions[id]! + 12 + index * each;
        if (this.#string(this.#bytes.readUInt32LE(at)) === name) return this.#bytes.readInt32LE(at + 4);
      }
    }
    return undefined;
  }

  #note(at: number): number {
    const id = this.#positions.push(at) - 1;
    const nameAt = this.#bytes.readUInt32LE(at);
    const kind = this.#kind(id);
    if (kind < KIND.INT || kind > KIND.ENUM64)
      throw new BtfError(`this BTF has a kind of type that is not known: ${kind}`);
    // The first of a name wins: later ones are of drivers.
    if (nameAt !== 0 && kind === KIND.STRUCT) setOnce(this.#structs, this.#string(nameAt), id);
    if (nameAt !== 0 && kind === KIND.TYPEDEF) setOnce(this.#typedefs, this.#string(nameAt), id);
    const extra = EXTRA[kind];
    return at + 12 + (extra === undefined ? 0 : extra.fixed + extra.each * this.#count(id));
  }

  #member(id: number, name: string): { readonly bits: number; readonly type: number } | undefined {
    const kind = this.#kind(id);
    if (kind !== KIND.STRUCT && kind !== KIND.UNION) return undefined;
    const at = this.#positions[id]!;
    const hasBitFields = this.#bytes.readUInt32LE(at + 4) >>> 31 === 1;
    for (let index = 0; index < this.#count(id); index += 1) {
      const memberAt = at + 12 + index * 12;
      const memberName = this.#bytes.readUInt32LE(memberAt);
      const type = this.#bytes.readUInt32LE(memberAt + 4);
      const raw = this.#bytes.readUInt32LE(memberAt + 8);
      const bits = hasBitFields ? raw & 0xff_ff_ff : raw;
      if (memberName !== 0) {
        if (this.#string(memberName) === name) return { bits, type };
        continue;
      }
      const inner = this.#member(this.#resolved(type), name);
      if (inner !== undefined) return { bits: bits + inner.bits, type: inner.type };
    }
    return undefined;
  }

  /** Through typedefs and qualifiers to what a type is. */
  #resolved(id: number): number {
    let at = id;
    while (TRANSPARENT.has(this.#kind(at))) at = this.#referred(at);
    return at;
  }

  #size(id: number): number | undefined {
    switch (this.#kind(id)) {
      case KIND.PTR:
        return 8;
      case KIND.ARRAY: {
        const at = this.#positions[id]! + 12;
        const element = this.#size(this.#resolved(this.#bytes.readUInt32LE(at)));
        return element === undefined ? undefined : element * this.#bytes.readUInt32LE(at + 8);
      }
      case KIND.INT:
      case KIND.STRUCT:
      case KIND.UNION:
      case KIND.ENUM:
      case KIND.ENUM64:
      case KIND.FLOAT:
        return this.#referred(id);
      default:
        return undefined;
    }
  }

  #kind(id: number): number {
    return id === 0 ? 0 : (this.#bytes.readUInt32LE(this.#positions[id]! + 4) >>> 24) & 31;
  }

  #count(id: number): number {
    return this.#bytes.readUInt32LE(this.#positions[id]! + 4) & 0xffff;
  }

  /** Size or type, whichever its kind has. */
  #referred(id: number): number {
    return this.#bytes.readUInt32LE(this.#positions[id]! + 8);
  }

  #string(offset: number): string {
    const from = this.#stringsAt + offset;
    return this.#bytes.toString("latin1", from, this.#bytes.indexOf(0, from));
  }
}

function setOnce<K, V>(map: Map<K, V>, key: K, value: V): void {
  if (!map.has(key)) map.set(key, value);
}
