/** Makes BTF as the kernel writes it, for tests. */
export class BtfBuilder {
  readonly #types: Buffer[] = [];
  #strings = "\0";

  /** Adds a type; its id. */
  add(kind: number, name: string, count: number, sizeOrType: number, extra: readonly number[] = [], flag = 0): number {
    const type = Buffer.alloc(12 + extra.length * 4);
    type.writeUInt32LE(this.#string(name), 0);
    type.writeUInt32LE(((flag << 31) | (kind << 24) | count) >>> 0, 4);
    type.writeUInt32LE(sizeOrType, 8);
    for (const [index, word] of extra.entries()) type.writeUInt32LE(word >>> 0, 12 + index * 4);
    return this.#types.push(type);
  }

  int(name: string, bytes: number): number {
    return this.add(1, name, 0, bytes, [bytes * 8]);
  }

  pointer(type: number): number {
    return this.add(2, "", 0, type);
  }

  array(type: number, index: number, count: number): number {
    return this.add(3, "", 0, 0, [type, index, count]);
  }

  /** Members as name, type and offset in bits; `flag` 1: their offsets tell of bit fields. */
  struct(name: string, bytes: number, members: readonly (readonly [string, number, number])[], flag = 0): number {
    return this.add(4, name, members.length, bytes, this.#members(members), flag);
  }

  union(name: string, bytes: number, members: readonly (readonly [string, number, number])[]): number {
    return this.add(5, name, members.length, bytes, this.#members(members));
  }

  enumeration(name: string, values: readonly (readonly [string, number])[]): number {
    const extra = values.flatMap(([value, number]) => [this.#string(value), number]);
    return this.add(6, name, values.length, 4, extra);
  }

  typedef(name: string, type: number): number {
    return this.add(8, name, 0, type);
  }

  constant(type: number): number {
    return this.add(10, "", 0, type);
  }

  /** A tracepoint with so many arguments. */
  tracepoint(name: string, parameters: number): number {
    const extra = Array.from({ length: parameters + 1 }, () => [0, 0]).flat();
    return this.typedef(`btf_trace_${name}`, this.pointer(this.add(13, "", parameters + 1, 0, extra)));
  }

  bytes(): Buffer {
    const types = Buffer.concat(this.#types);
    const strings = Buffer.from(this.#strings, "latin1");
    const header = Buffer.alloc(24);
    header.writeUInt16LE(0xeb9f, 0);
    header.writeUInt8(1, 2);
    header.writeUInt32LE(24, 4);
    header.writeUInt32LE(types.length, 12);
    header.writeUInt32LE(types.length, 16);
    header.writeUInt32LE(strings.length, 20);
    return Buffer.concat([header, types, strings]);
  }

  #members(members: readonly (readonly [string, number, number])[]): number[] {
    return members.flatMap(([name, type, bits]) => [this.#string(name), type, bits]);
  }

  #string(text: string): number {
    if (text === "") return 0;
    const at = this.#strings.length;
    this.#strings += `${text}\0`;
    return at;
  }
}

/** A small kernel that has all that time slots need, and `without` this tracepoint. */
export function kernelBtf(without = ""): Buffer {
  const btf = new BtfBuilder();
  const u64 = btf.int("unsigned long", 8);
  const u32 = btf.int("unsigned int", 4);
  const u16 = btf.int("unsigned short", 2);
  const char = btf.int("char", 1);
  const pointer = btf.pointer(0);
  const comm = btf.array(char, u32, 16);
  const entity = btf.struct("sched_entity", 16, [
    ["sum_exec_runtime", u64, 0],
    ["nr_migrations", u64, 64],
  ]);
  btf.struct("task_struct", 256, [
    ["__state", u32, 0],
    ["on_cpu", u32, 32],
    ["se", entity, 64],
    ["pid", u32, 192],
    ["tgid", u32, 224],
    ["group_leader", pointer, 256],
    ["nvcsw", u64, 320],
    ["nivcsw", u64, 384],
    ["min_flt", u64, 448],
    ["maj_flt", u64, 512],
    ["comm", comm, 576],
    ["cgroups", pointer, 704],
  ]);
  btf.struct("css_set", 64, [["dfl_cgrp", pointer, 64]]);
  btf.struct("cgroup", 64, [["kn", pointer, 128]]);
  btf.struct("kernfs_node", 64, [
    ["__parent", pointer, 0],
    ["name", pointer, 64],
    ["id", u64, 128],
  ]);
  const iterator = btf.struct("bvec_iter", 16, [["bi_size", u32, 64]]);
  btf.struct("bio", 64, [
    ["bi_opf", u32, 0],
    ["bi_flags", u16, 32],
    ["bi_iter", iterator, 64],
  ]);
  btf.enumeration("", [
    ["BIO_PAGE_PINNED", 0],
    ["BIO_CLONED", 1],
  ]);
  const tracepoints: [string, number][] = [
    ["sched_switch", 4],
    ["sched_wakeup", 1],
    ["sched_wakeup_new", 1],
    ["sched_process_free", 1],
    ["task_rename", 2],
    ["cgroup_attach_task", 4],
    ["sys_enter", 2],
    ["page_fault_user", 3],
    ["page_fault_kernel", 3],
    ["sock_send_length", 3],
    ["sock_recv_length", 3],
    ["block_bio_queue", 1],
  ];
  for (const [name, parameters] of tracepoints) if (name !== without) btf.tracepoint(name, parameters);
  return btf.bytes();
}
