import type { Socket } from "node:net";

/**
 * What the other machine's kernel has confirmed of a connection: the most that plain TCP can tell a sender (Linux;
 * `man 7 tcp`, TCP_INFO and SIOCOUTQ).
 */
export interface Acknowledgements {
  /** Stands for everything that our kernel holds now; give it to `has` later. */
  mark(): bigint;
  /** True once the peer's kernel has acknowledged all that `mark` stood for. */
  has(mark: bigint): boolean;
}

const IPPROTO_TCP = 6;
const TCP_INFO = 11;
/** Bytes in the send queue: not sent, or sent and not acknowledged. */
const SIOCOUTQ = 0x5411;
/**
 * `struct tcp_info` of linux/tcp.h as far as we read it: tcpi_bytes_acked is a u64 at 120 (since Linux 4.1); what comes
 * behind grew with each version, and the kernel copies no more than there is room for.
 */
const BYTES_ACKED_AT = 120;
const INFO_BYTES = 128;

/** Undefined where the platform does not tell: then "our own kernel took it" is the most that can be known. */
export async function acknowledgementsOf(socket: Socket): Promise<Acknowledgements | undefined> {
  loading ??= loadSystemCalls();
  const calls = await loading;
  const descriptor = descriptorOf(socket);
  if (descriptor === undefined || calls === undefined) return undefined;
  const info = Buffer.alloc(INFO_BYTES);
  const length = Buffer.alloc(4);
  const queued = Buffer.alloc(4);
  // The descriptor's number is given to somebody else once the socket is closed, so each use looks whether it still is.
  const isOurs = () => descriptorOf(socket) === descriptor;
  const acknowledged = (): bigint => {
    length.writeUInt32LE(INFO_BYTES);
    if (!isOurs() || calls.getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, info, length) !== 0) return -1n;
    return length.readUInt32LE() >= INFO_BYTES ? info.readBigUInt64LE(BYTES_ACKED_AT) : -1n;
  };
  const inQueue = (): bigint => {
    if (!isOurs() || calls.ioctl(descriptor, SIOCOUTQ, queued) !== 0) return -1n;
    return BigInt(queued.readInt32LE());
  };
  if (acknowledged() < 0n || inQueue() < 0n) return undefined;
  return {
    // An acknowledgement between the two calls makes the mark too high, never too low; an empty queue then tells.
    mark: () => inQueue() + acknowledged(),
    has: (mark) => acknowledged() >= mark || inQueue() === 0n,
  };
}

/** Node keeps it in its handle, and says -1 when that is closed. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } | null };
  return typeof handle?.fd === "number" && handle.fd >= 0 ? handle.fd : undefined;
}

interface SystemCalls {
  getsockopt(descriptor: number, level: number, name: number, value: Buffer, length: Buffer): number;
  ioctl(descriptor: number, request: number, value: Buffer): number;
}

let loading: Promise<SystemCalls | undefined> | undefined;

/** Node has neither of the two. Loaded on first use: native code is for those who need it. */
async function loadSystemCalls(): Promise<SystemCalls | undefined> {
  if (process.platform !== "linux") return undefined;
  try {
    const koffi = await import("koffi");
    const libc = koffi.load(null);
    return {
      getsockopt: libc.func("int getsockopt(int, int, int, _Out_ uint8_t *, _Inout_ uint8_t *)"),
      ioctl: libc.func("int ioctl(int, unsigned long, _Out_ uint8_t *)"),
    };
  } catch {
    return undefined;
  }
}
