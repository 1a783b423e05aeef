import { BPF_COMMANDS, type KernelCalls } from "./kernel-calls.ts";
import { Mapping } from "./mapping.ts";
import type { Ownership } from "./ownership.ts";

/** linux/bpf.h, `enum bpf_map_type`. */
const MAP_TYPES = { HASH: 1, ARRAY: 2, PERF_EVENT_ARRAY: 4, LRU_HASH: 9, RINGBUF: 27 } as const;
/** linux/bpf.h: the value of an array may be mapped. */
const BPF_F_MMAPABLE = 1 << 10;

const ATTRIBUTE_BYTES = 128;
/** Names have 15 characters and a zero byte. */
const NAME_CHARACTERS = 15;

export interface MapDefinition {
  readonly type: keyof typeof MAP_TYPES;
  /** Shown by bpftool; letters, digits, `_` and `.`, at most 15. */
  readonly name: string;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** For a ring: its bytes, a power of two and a multiple of the page. */
  readonly entries: number;
  readonly isMapped?: boolean;
}

/** Makes a map; its descriptor. It goes once nobody has it open, however this process ends. @throws KernelError */
export function createMap(calls: KernelCalls, owned: Ownership, definition: MapDefinition): number {
  const attributes = Buffer.alloc(ATTRIBUTE_BYTES);
  attributes.writeUInt32LE(MAP_TYPES[definition.type], 0);
  attributes.writeUInt32LE(definition.keyBytes, 4);
  attributes.writeUInt32LE(definition.valueBytes, 8);
  attributes.writeUInt32LE(definition.entries, 12);
  attributes.writeUInt32LE(definition.isMapped === true ? BPF_F_MMAPABLE : 0, 16);
  attributes.write(definition.name.slice(0, NAME_CHARACTERS), 28, "latin1");
  return owned.own(calls.bpf(BPF_COMMANDS.MAP_CREATE, attributes), (descriptor) => calls.close(descriptor));
}

/** Sets one entry of a map whose key and value are 4 bytes each. @throws KernelError */
export function setEntry(calls: KernelCalls, descriptor: number, key: number, value: number): void {
  const keyBytes = Buffer.alloc(4);
  const valueBytes = Buffer.alloc(4);
  keyBytes.writeUInt32LE(key);
  valueBytes.writeUInt32LE(value);
  const attributes = Buffer.alloc(32);
  attributes.writeUInt32LE(descriptor, 0);
  attributes.writeBigUInt64LE(calls.addressOf(keyBytes), 8);
  attributes.writeBigUInt64LE(calls.addressOf(valueBytes), 16);
  calls.bpf(BPF_COMMANDS.MAP_UPDATE_ELEM, attributes);
}

/** One value that the kernel's programs and this process both see; the owner of its memory. */
export class SharedValue {
  readonly descriptor: number;
  readonly #mapping: Mapping;

  /** @throws KernelError */
  constructor(calls: KernelCalls, owned: Ownership, name: string, byteLength: number) {
    this.descriptor = createMap(calls, owned, {
      type: "ARRAY",
      name,
      keyBytes: 4,
      valueBytes: byteLength,
      entries: 1,
      isMapped: true,
    });
    const pages = Math.ceil(byteLength / calls.pageBytes) * calls.pageBytes;
    this.#mapping = owned.own(
      new Mapping(calls, { descriptor: this.descriptor, offset: 0, byteLength: pages, isWritable: true }),
      (mapping) => mapping.release(),
    );
  }

  /** The memory; not to be used once its owner is released. @throws Error after that */
  get bytes(): ArrayBuffer {
    return this.#mapping.bytes;
  }
}
