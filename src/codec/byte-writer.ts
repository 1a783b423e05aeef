/** A Buffer that grows: what encoders write into. Ask for room first, then write; nothing checks twice. */
export class ByteWriter {
  /** Write here, from `length` on, at most as much as was asked for. */
  buffer: Buffer;
  /** The same memory, for writing several bytes at once. */
  view: DataView;
  /** Bytes written so far. */
  length = 0;

  constructor(expectedBytes: number) {
    this.buffer = Buffer.allocUnsafe(Math.max(16, expectedBytes));
    this.view = viewOf(this.buffer);
  }

  /** Makes room for `bytes` more; `buffer` may be another one afterwards. */
  reserve(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
    this.view = viewOf(larger);
  }

  writeBytes(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** UTF-8; a lone surrogate becomes U+FFFD. */
  writeText(text: string): void {
    // One UTF-16 unit is at most three bytes of UTF-8.
    this.reserve(text.length * 3);
    this.length += this.buffer.write(text, this.length, "utf8");
  }

  /** What was written. A view: valid until the writer is used again. */
  take(): Buffer {
    return this.buffer.subarray(0, this.length);
  }
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
