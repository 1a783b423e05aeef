import { Duplex } from "node:stream";
import { loadPglite } from "./driver.ts";

/**
 * PGlite, a Postgres of one backend inside of this process, behind what looks like sockets to the driver. For trials: it has
 * no COPY, it works on the thread of everything else, and its sessions share their settings.
 *
 * ```
 *  driver --bytes--> EmbeddedSocket --whole exchanges--> [one at a time] --> PGlite
 *     ^                                                    | a transaction keeps its turn until it ends
 *     '----------------- answers; notifications go to all -'
 * ```
 *
 * @param folder where it keeps its data; "": in memory, for as long as this process lives.
 * @throws ConfigError: a package is missing.
 */
export async function embeddedConnection(folder: string): Promise<Duplex> {
  let engine = engines.get(folder);
  if (engine === undefined) {
    engine = Engine.start(folder);
    engines.set(folder, engine);
    // One that did not start is tried again by the next.
    engine.catch(() => engines.delete(folder));
  }
  return new EmbeddedSocket(await engine);
}

/** One for each folder: two on the same data would destroy it. */
const engines = new Map<string, Promise<Engine>>();

/** Codes of messages (PostgreSQL 15, section 55.7): what ends an exchange, what answers it. */
const QUERY = 0x51;
const SYNC = 0x53;
const TERMINATE = 0x58;
const READY = 0x5a;
const NOTIFICATION = 0x41;
/** `I` in ReadyForQuery: no transaction is open. */
const IDLE = 0x49;

interface Backend {
  execProtocolRaw(message: Uint8Array): Promise<Uint8Array>;
}

class Engine {
  readonly sockets = new Set<EmbeddedSocket>();
  readonly #backend: Backend;
  /** What it answered to the first startup message; it has one backend, which starts once. */
  readonly greeting: Buffer;
  readonly #waiting: (() => void)[] = [];
  #isTaken = false;

  private constructor(backend: Backend, greeting: Buffer) {
    this.#backend = backend;
    this.greeting = greeting;
  }

  static async start(folder: string): Promise<Engine> {
    const { PGlite, pgmq } = await loadPglite();
    const backend = await PGlite.create(folder === "" ? "memory://" : folder, { extensions: { pgmq } });
    const names = Buffer.from("user\0postgres\0database\0postgres\0\0");
    const startup = Buffer.alloc(8);
    startup.writeInt32BE(8 + names.length, 0);
    // Protocol 3.0.
    startup.writeInt32BE(3 << 16, 4);
    return new Engine(backend, Buffer.from(await backend.execProtocolRaw(Buffer.concat([startup, names]))));
  }

  /** Resolves when it is the caller's turn; ends with `release`. */
  async turn(): Promise<void> {
    if (this.#isTaken) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#isTaken = true;
  }

  release(): void {
    this.#isTaken = false;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#isTaken = true;
    next();
  }

  /** One exchange. `isIdle`: no transaction is open behind it. */
  async exchange(request: Buffer): Promise<{ readonly answer: Buffer; readonly isIdle: boolean }> {
    const answer: Buffer[] = [];
    let isIdle = true;
    for (const { code, bytes } of messagesOf(Buffer.from(await this.#backend.execProtocolRaw(request)))) {
      if (code === NOTIFICATION) for (const socket of this.sockets) socket.push(bytes);
      else answer.push(bytes);
      if (code === READY) isIdle = bytes[5] === IDLE;
    }
    return { answer: Buffer.concat(answer), isIdle };
  }
}

class EmbeddedSocket extends Duplex {
  readonly #engine: Engine;
  /** What came and is no whole exchange yet. */
  #input: Buffer = Buffer.alloc(0);
  #isGreeted = false;
  #hasTurn = false;
  /** One exchange after the other. */
  #work: Promise<void> = Promise.resolve();

  constructor(engine: Engine) {
    super();
    this.#engine = engine;
    engine.sockets.add(this);
  }

  // What the driver calls on a socket.
  connect(): this {
    process.nextTick(() => this.emit("connect"));
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#input = Buffer.concat([this.#input, chunk]);
    try {
      this.#take();
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  override _final(done: () => void): void {
    this.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#engine.sockets.delete(this);
    // What it is in the middle of ends first; a transaction that it leaves open is rolled back.
    void this.#work.then(async () => {
      if (!this.#hasTurn) return;
      await this.#engine.exchange(simpleQuery("ROLLBACK")).catch(() => {});
      this.#release();
    });
    done(error);
  }

  #take(): void {
    if (!this.#isGreeted) {
      // The startup message has no code: its length comes first.
      if (this.#input.length < 4 || this.#input.length < this.#input.readInt32BE(0)) return;
      this.#input = this.#input.subarray(this.#input.readInt32BE(0));
      this.#isGreeted = true;
      this.push(this.#engine.greeting);
    }
    let end = 0;
    for (const { code, endAt } of messagesOf(this.#input)) {
      if (code === TERMINATE) this.push(null);
      if (code !== QUERY && code !== SYNC) continue;
      const request = Buffer.from(this.#input.subarray(end, endAt));
      end = endAt;
      this.#work = this.#work.then(() => this.#exchange(request));
    }
    this.#input = this.#input.subarray(end);
  }

  async #exchange(request: Buffer): Promise<void> {
    if (this.destroyed) return;
    if (!this.#hasTurn) await this.#engine.turn();
    this.#hasTurn = true;
    try {
      const { answer, isIdle } = await this.#engine.exchange(request);
      if (!this.destroyed) this.push(answer);
      if (isIdle) this.#release();
    } catch (error) {
      this.#release();
      this.destroy(error as Error);
    }
  }

  #release(): void {
    this.#hasTurn = false;
    this.#engine.release();
  }
}

/** The whole messages in some bytes: a code, a length that counts itself, and the rest. */
function* messagesOf(bytes: Buffer): Generator<{ code: number; bytes: Buffer; endAt: number }> {
  for (let at = 0; at + 5 <= bytes.length; ) {
    const endAt = at + 1 + bytes.readInt32BE(at + 1);
    if (endAt > bytes.length) return;
    yield { code: bytes[at]!, bytes: bytes.subarray(at, endAt), endAt };
    at = endAt;
  }
}

function simpleQuery(text: string): Buffer {
  const body = Buffer.from(`${text}\0`);
  const head = Buffer.alloc(5);
  head[0] = QUERY;
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}
