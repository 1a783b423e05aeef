import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { getSystemErrorName } from "node:util";
import type { RootDatabase } from "lmdb";
import { toError } from "../errors.ts";
import { OpeningGate } from "./opening-gate.ts";
import { damaged, type StatePaths } from "./state-directory.ts";
import { StoreRoom } from "./store-room.ts";

/**
 * All that Tailrace does with lmdb, and the ways around its traps (lmdb 3.5.6):
 *
 * - Only asynchronous, batched writes: on a full disk the synchronous ones hang, report successes that are none, or die
 *   in free(). Even so a page that cannot be written overruns a buffer: store-room.ts keeps LMDB from ever meeting that.
 * - `overlappingSync` off: then a transaction is pwrite of its pages, fdatasync, an O_DSYNC write of the meta page, and
 *   only then does its promise resolve (seen with strace). There is no other moment to wait for.
 * - `eventTurnBatching` off: it makes promises that nobody can hold, and their rejections are the strays below.
 * - An environment whose meta write failed takes no further transaction and never says so, the next commit would wait for
 *   ever: every failure closes it, and the next use opens it anew.
 * - Opening it beside a process that commits undoes commits (opening-gate.ts).
 * - A failed open ends in SIGSEGV: whoever opens has looked before (store-files.ts, preflight.ts).
 *
 * ```
 *  key (UTF-8)                              value (UTF-8 JSON)
 *  #<64 hex digits>                         <the key it stands for, too long for LMDB>\n<the value>
 *  ["file","app","8f3a"]                    {"generation":0, ...}
 *  ["mark","out","length"]                  5678
 *  ["note","ledger"]                        {...}
 *  ["position","out","app","8f3a"]          {"prefix":1234,"ranges":[{"start":1300,"end":1400}]}
 *  schema                                   1
 *  size                                     524288
 * ```
 *
 * `size` is what data.mdb measured before the transaction that wrote it; the file never shrinks. Its end is room without
 * content, so that nothing else would tell that the file was cut there.
 *
 * One call at a time: whoever holds it sees to that.
 */
export class LmdbEnvironment {
  readonly #stateDir: string;
  readonly #paths: StatePaths;
  /** Undefined after a failed write, until the next use. */
  #db: Database | undefined;
  /** Undefined for a reader. */
  readonly #room: StoreRoom | undefined;
  readonly #gate: OpeningGate;
  #writes = 0;
  /** The `size` row as this object wrote it last. */
  #writtenSize: string | undefined;

  private constructor(
    stateDir: string,
    paths: StatePaths,
    opened: { readonly db: Database; readonly room: StoreRoom | undefined; readonly gate: OpeningGate },
  ) {
    this.#stateDir = stateDir;
    this.#paths = paths;
    this.#db = opened.db;
    this.#room = opened.room;
    this.#gate = opened.gate;
  }

  /** @throws CheckpointError `TR_STATE_DAMAGED`, or the system's own error. */
  static async open(
    stateDir: string,
    paths: StatePaths,
    { isReadOnly }: { isReadOnly: boolean },
  ): Promise<LmdbEnvironment> {
    const gate = new OpeningGate(paths.storeDir);
    try {
      const db = await gate.alone(() => openDatabase(stateDir, paths, isReadOnly));
      try {
        const room = isReadOnly ? undefined : await StoreRoom.open(paths.data);
        return new LmdbEnvironment(stateDir, paths, { db, room, gate });
      } catch (error) {
        await gate.alone(() => db.close());
        throw error;
      }
    } catch (error) {
      gate.close();
      throw error;
    }
  }

  /**
   * Every row but `size`, by key, as of now.
   * @throws CheckpointError `TR_STATE_DAMAGED` if the file was cut.
   */
  async rows(): Promise<Map<string, string>> {
    const db = await this.#database();
    this.#checkSize(db);
    const rows = new Map<string, string>();
    for (const { key, value } of db.getRange({})) {
      const name = key.toString();
      if (name === SIZE_KEY) continue;
      const text = value.toString();
      if (name.startsWith("#")) {
        const end = text.indexOf("\n");
        rows.set(text.slice(0, end), text.slice(end + 1));
      } else {
        rows.set(name, text);
      }
    }
    return rows;
  }

  /** One row. @throws CheckpointError `TR_STATE_DAMAGED` if the file was cut. */
  async row(key: string): Promise<string | undefined> {
    const db = await this.#database();
    this.#checkSize(db);
    return db.get(Buffer.from(key))?.toString();
  }

  /**
   * At most `limit` rows with `from` <= key < `below`, in the byte order of their keys, and no more once their values have
   * 4 MiB; none only where there are none. For keys that LMDB takes.
   */
  async page(from: string, below: string, limit: number): Promise<[key: string, value: string][]> {
    const db = await this.#database();
    const rows: [key: string, value: string][] = [];
    let bytes = 0;
    for (const { key, value } of db.getRange({ start: Buffer.from(from), end: Buffer.from(below), limit })) {
      rows.push([key.toString(), value.toString()]);
      bytes += value.length;
      if (bytes >= MAX_PAGE_BYTES) break;
    }
    return rows;
  }

  async isEmpty(): Promise<boolean> {
    return (await this.#database()).getKeysCount({}) === 0;
  }

  /**
   * Writes rows, or removes those that are undefined, in one transaction; resolves when it is flushed.
   * @throws Error with the errno's name as `code`: nothing was changed.
   */
  async write(rows: ReadonlyMap<string, string | undefined>): Promise<void> {
    // Everything that can throw is done before the batch: a batch that throws half-way commits its first half.
    const writes = [...rows].map(([key, value]) => encodeRow(key, value));
    const db = await this.#database();
    await this.#room?.ensure(writes.map(({ value }) => value?.length ?? 0));
    const size = String(this.#room?.size);
    if (this.#writtenSize !== size) writes.push(encodeRow(SIZE_KEY, size));
    const write = async () => {
      // A reader that was killed would keep all that is freed from now on.
      this.#writes += 1;
      if (this.#writes % WRITES_BETWEEN_CHECKS === 0) db.readerCheck();
      try {
        await db.batch(() => {
          for (const { key, value } of writes) {
            if (value === undefined) db.remove(key);
            else db.put(key, value);
          }
        });
      } catch (error) {
        const cause = await causeOf(error);
        this.#db = undefined;
        await db.close();
        throw cause;
      }
    };
    // Whoever is stopped while it opens the store makes this fail, which is told, rather than wait without a word.
    await this.#gate.alone(write, { timeoutMs: WRITE_TIMEOUT_MS });
    this.#writtenSize = size;
  }

  /** True if it was open until now, so that what is on disk is all that there is. */
  async close(): Promise<boolean> {
    const db = this.#db;
    this.#db = undefined;
    try {
      if (db !== undefined) await this.#gate.alone(() => db.close());
    } finally {
      this.#gate.close();
      await this.#room?.close();
    }
    return db !== undefined;
  }

  #checkSize(db: Database): void {
    const written = db.get(Buffer.from(SIZE_KEY))?.toString();
    const { size } = statSync(this.#paths.data);
    if (written === undefined || size >= Number(written)) return;
    throw damaged(this.#stateDir, `checkpoints/data.mdb was cut from ${written} to ${size} bytes`);
  }

  async #database(): Promise<Database> {
    if (this.#db === undefined) {
      // After a failed meta write LMDB has put the old meta page back into the page cache only. It must be on disk
      // before anything reuses the pages that the new one, which may have reached the disk, refers to.
      await this.#room?.datasync();
      this.#db = await this.#gate.alone(() => openDatabase(this.#stateDir, this.#paths, this.#room === undefined));
    }
    // lmdb keeps a snapshot for the rest of the event loop's turn; whoever asks wants the newest.
    this.#db.resetReadTxn();
    return this.#db;
  }
}

/**
 * True for a rejection that lmdb leaves without a holder after a failed commit, beside the one that the committer gets.
 * Whoever listens for unhandled rejections counts it and goes on: it is never news.
 */
export function isStrayCommitRejection(error: unknown): boolean {
  return error instanceof Error && "commitError" in error && error.message.startsWith("Commit failed");
}

/**
 * True for what lmdb passes to `console.error`, with its stack, when a commit fails: the committer gets the same error
 * and says it once.
 */
export function isCommitComplaint(printed: unknown): boolean {
  if (!(printed instanceof Error) || !("code" in printed) || typeof printed.code !== "number") return false;
  return /\/lmdb\/(write\.js|dist\/)/.test(printed.stack ?? "");
}

const SIZE_KEY = "size";

/** Each check is a look at a table of 126 readers. */
const WRITES_BETWEEN_CHECKS = 100;

const WRITE_TIMEOUT_MS = 10_000;

/** LMDB takes 1978 bytes. */
const MAX_KEY_BYTES = 1024;

/** Of the values of one page: a dead letter may be some MiB, and a page of them is in memory at once. */
const MAX_PAGE_BYTES = 4 * 1024 * 1024;

type Database = RootDatabase<Buffer, Buffer>;

async function openDatabase(stateDir: string, paths: StatePaths, isReadOnly: boolean): Promise<Database> {
  // Loaded here, so that whoever takes the memory store does not load native code.
  const { open } = await import("lmdb");
  const options = {
    path: paths.storeDir,
    noSubdir: false,
    readOnly: isReadOnly,
    overlappingSync: false,
    eventTurnBatching: false,
    encoding: "binary",
    keyEncoding: "binary",
    permissionsMode: 0o600,
  } as const;
  try {
    return open<Buffer, Buffer>(options);
  } catch (error) {
    const cause = toError(error);
    // LMDB's own codes (MDB_INVALID, MDB_CORRUPTED, ...) are -30799 to -30768; others are the system's.
    const code = "code" in cause && typeof cause.code === "number" ? cause.code : 0;
    if (code <= -30700 || /MDB_/.test(cause.message)) throw damaged(stateDir, `LMDB says ${cause.message}`, cause);
    throw cause;
  }
}

function encodeRow(key: string, value: string | undefined): { key: Buffer; value: Buffer | undefined } {
  const bytes = Buffer.from(key);
  if (bytes.length <= MAX_KEY_BYTES) return { key: bytes, value: value === undefined ? undefined : Buffer.from(value) };
  const short = Buffer.from(`#${createHash("sha256").update(bytes).digest("hex")}`);
  return { key: short, value: value === undefined ? undefined : Buffer.from(`${key}\n${value}`) };
}

/** Why a transaction failed, with the errno's name as `code`. */
async function causeOf(error: unknown): Promise<Error> {
  const failure = toError(error);
  if (!("commitError" in failure)) return failure;
  // lmdb rejects this promise in the same turn; were it not to, the committer must not wait for ever.
  const reason = await Promise.race([
    Promise.resolve(failure.commitError).then(() => failure, toError),
    new Promise<Error>((resolve) => setTimeout(resolve, 100, failure).unref()),
  ]);
  const code = "code" in reason && typeof reason.code === "number" ? reason.code : 0;
  if (code <= 0) return reason;
  const name = getSystemErrorName(-code);
  // LMDB reports a write that was cut short as an input/output error; on a full disk that is the usual one.
  const hint = name === "EIO" ? "EIO, an input/output error or no space left on the disk" : name;
  return Object.assign(new Error(`${hint} (${reason.message})`), { code: name });
}
