import type { Json } from "../../checkpoint/checkpoint-store.ts";
import { errnoOf, toError } from "../../errors.ts";
import { type ClosedOutput, type FileIdentity, identityOf, isFileAt } from "../../outputs/output-mark.ts";
import type { HandedOn, Successor } from "../../outputs/rotation.ts";
import { Backoff } from "../../runtime/backoff.ts";
import { type BytePath, folderOf, pathToText } from "../../runtime/byte-path.ts";
import type { FileHandle } from "../../runtime/file-system.ts";
import { untilWoken } from "../../runtime/until-woken.ts";
import type { Marks, SinkContext } from "../../stage/index.ts";
import { type Schema, SchemaGuess } from "./columns.ts";
import { JournalDamaged, type JournalEvent, journalEvents } from "./journal.ts";
import { type JournalNames, numbered } from "./journal-names.ts";
import { ParquetFile, type ParquetLibrary } from "./parquet-file.ts";
import { RowGroup, SchemaMisfit } from "./row-group.ts";

/*
 * What the sink keeps of closed journals. Paths are byte paths.
 *
 * | name             | value          | says |
 * |------------------|----------------|------|
 * | `journal:PATH`   | Journal        | a closed journal that is to become a Parquet file |
 * | `parquet:PATH`   | NamingIntent   | its Parquet file is complete and durable, and gets this name |
 * | `finished:PATH`  | ClosedOutput[] | what `rotate.keep` may remove, oldest first; PATH is that of the open journals |
 */

interface Journal extends HandedOn {
  /** The journal's path while it was open. */
  readonly from: BytePath;
}

interface NamingIntent extends FileIdentity {
  /** The name that the finished file gets. */
  readonly to: BytePath;
}

interface Waiting {
  readonly journal: Journal;
  /** The temp file that is complete and durable, and the name that it should have. */
  complete?: { readonly identity: FileIdentity; readonly wanted: BytePath } | undefined;
  intent: NamingIntent | undefined;
}

/** Closed journals that may wait before no more records are taken. */
const MAX_WAITING = 4;

/**
 * Makes Parquet files of closed journals, one after the other, beside the writing of new ones:
 *
 *     write temp file --> fsync it and its folder --> commit intent {file, name} --> rename, never over anything --> fsync folder
 *         --> unlink journal --> fsync folder --> commit: journal and intent are forgotten --> delete what is beyond `keep`
 *
 * | dying ...                   | the next start |
 * |-----------------------------|----------------|
 * | before the intent           | unlinks the temp file and writes it again: the journal has all of it |
 * | between intent and rename   | renames: the temp file was durable before the intent was |
 * | after the rename            | finds no temp file, so the name was given: it only tidies up. The file itself may be gone by now, and in somebody's store |
 * | after the unlink            | the same |
 */
export class Converter implements Successor {
  readonly #context: SinkContext;
  readonly #library: ParquetLibrary;
  readonly #names: JournalNames;
  readonly #options: ConverterOptions;
  readonly #waiting: Waiting[] = [];
  readonly #finished: Map<BytePath, readonly ClosedOutput[]>;
  readonly #ending = new AbortController();
  #working: Promise<void> | undefined;
  #wakers: (() => void)[] = [];
  /** Why the first one cannot be converted, while it cannot. */
  trouble: string | undefined;

  constructor(context: SinkContext, options: ConverterOptions, library: ParquetLibrary, names: JournalNames) {
    this.#context = context;
    this.#options = options;
    this.#library = library;
    this.#names = names;
    this.#finished = marksNamed<readonly ClosedOutput[]>(context.marks, FINISHED);
    const intents = marksNamed<NamingIntent>(context.marks, INTENT);
    for (const [path, journal] of marksNamed<Journal>(context.marks, JOURNAL)) {
      this.#waiting.push({ journal, intent: intents.get(path) });
    }
    // The store gives them by name; files are to be numbered in the order in which they were begun.
    this.#waiting.sort((one, other) => one.journal.beganAtMs - other.journal.beganAtMs);
  }

  marksOf(closed: HandedOn, from: BytePath): Marks {
    return { [JOURNAL + closed.path]: { ...closed, from } as unknown as Json };
  }

  isTaken(name: BytePath): boolean {
    return this.#waiting.some(({ journal }) => journal.path === name);
  }

  take(closed: HandedOn, from: BytePath): void {
    this.#waiting.push({ journal: { ...closed, from }, intent: undefined });
    this.start();
  }

  /** Begins with what waits, unless it is under way. */
  start(): void {
    if (this.#working !== undefined || this.#waiting.length === 0) return;
    this.#working = this.#work().finally(() => {
      this.#working = undefined;
    });
  }

  get isFull(): boolean {
    return this.#waiting.length >= MAX_WAITING;
  }

  /** Resolves once a journal more may wait, or something is in its way, or `signal` aborts. */
  async room(signal: AbortSignal): Promise<void> {
    while (this.isFull && this.trouble === undefined && !signal.aborted) {
      await untilWoken(signal, (wake) => this.#wakers.push(wake));
    }
  }

  /** Converts all that waits, each tried once more where something is in its way; the rest stays for the next start. */
  async finish(): Promise<void> {
    this.#ending.abort();
    if (this.#waiting.length > 0) {
      const facts = { journals: this.#waiting.length };
      this.#context.log.info(facts, "what was open becomes Parquet files; after a kill the next start does it");
    }
    await this.#working;
    this.start();
    await this.#working;
    const left = this.#waiting.length;
    if (left === 0) return;
    const facts = { journals: left, error: this.trouble };
    this.#context.log.warn(facts, `${left} journals could not become Parquet files; the next start does it`);
  }

  async #work(): Promise<void> {
    const { clock, random, log } = this.#context;
    const backoff = new Backoff({ initialMs: 250, maxMs: 5000 }, random);
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      try {
        await this.#convert(first);
        this.#waiting.shift();
        this.trouble = undefined;
        backoff.reset();
      } catch (error) {
        const facts = { path: pathToText(first.journal.path), error: toError(error).message };
        if (error instanceof JournalDamaged) {
          // Its mark stays: the next start tries again, and what can be read of it can be read by hand until then.
          log.error(facts, "the journal cannot be read and is left where it is");
          this.#waiting.shift();
          continue;
        }
        if (this.trouble === undefined) log.warn(facts, "the Parquet file cannot be written yet; trying on");
        this.trouble = facts.error;
        this.#wake();
        if (this.#ending.signal.aborted) return;
        await clock.sleep(backoff.next(), { signal: this.#ending.signal });
      } finally {
        this.#wake();
      }
    }
  }

  #wake(): void {
    for (const wake of this.#wakers.splice(0)) wake();
  }

  async #convert(waiting: Waiting): Promise<void> {
    const { journal } = waiting;
    if (waiting.intent === undefined) {
      waiting.complete ??= await this.#write(journal);
      if (waiting.complete === undefined) return;
      // If this commit fails, it may have been made all the same: the temp file must stay the one that it speaks of.
      await this.#intend(waiting, waiting.complete.identity, waiting.complete.wanted);
    }
    await this.#name(waiting);
    const { fileSystem, log, clock } = this.#context;
    const to = waiting.intent!.to;
    await fileSystem.syncFolder(folderOf(to));
    await this.#unlink(journal.path);
    // Once it is forgotten nobody would remove it, if a power cut brought it back.
    await fileSystem.syncFolder(folderOf(journal.path));
    const { intent } = waiting;
    const finished = [...(this.#finished.get(journal.from) ?? []), { ...intent!, path: to }];
    await this.#forget(
      journal,
      this.#options.keep > 0 ? { [FINISHED + journal.from]: finished as unknown as Json } : {},
    );
    if (this.#options.keep > 0) {
      this.#finished.set(journal.from, finished);
      await this.#removeBeyond(journal.from);
    }
    const seconds = Math.round((clock.now() - journal.beganAtMs) / 1000);
    log.info({ path: pathToText(to), seconds }, "a Parquet file is finished");
  }

  /** Writes the temp file and makes it durable. Undefined: there is nothing to convert. */
  async #write(journal: Journal): Promise<Waiting["complete"]> {
    const { fileSystem, events } = this.#context;
    const temp = tempOf(journal);
    let source: FileHandle;
    try {
      source = await fileSystem.open(journal.path, "read");
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      const path = pathToText(journal.path);
      events.emit("output_missing", `${path} is gone, with the records that it held`, { path });
      await this.#forget(journal);
      return undefined;
    }
    try {
      // Of a run that died here, or of a try that failed: what was not synced cannot be trusted.
      await this.#unlink(temp);
      const target = await fileSystem.open(temp, "create", Number.parseInt(this.#options.mode, 8));
      try {
        const first = await this.#fill(source, target);
        if (first === undefined) throw new JournalDamaged("it holds no record");
        await target.sync();
        // Its name, too: that it is missing will mean that it was renamed.
        await fileSystem.syncFolder(folderOf(temp));
        const identity = identityOf(await target.stat(), fileSystem);
        return { identity, wanted: this.#names.finalName(journal.path, first, journal.beganAtMs) };
      } catch (error) {
        // On a full disk even a part of it is in somebody's way.
        await this.#unlink(temp).catch(() => {});
        throw error;
      } finally {
        await target.close();
      }
    } finally {
      await source.close();
    }
  }

  /** Writes all events of the journal; the first of them. */
  async #fill(source: FileHandle, target: FileHandle): Promise<JournalEvent | undefined> {
    const { schema: declared } = this.#options;
    let schema = declared;
    let first: JournalEvent | undefined;
    for await (const events of journalEvents(source)) {
      first ??= events[0];
      if (schema !== undefined || events.length === 0) break;
      // One batch says it nearly always: what passes it on then need not be read twice.
      const guess = new SchemaGuess();
      guess.observe(events);
      schema = guess.schema();
    }
    if (schema === undefined) return undefined;
    try {
      await this.#fillWith(schema, source, target);
    } catch (error) {
      if (!(error instanceof SchemaMisfit)) throw error;
      const guess = new SchemaGuess();
      for await (const events of journalEvents(source)) guess.observe(events);
      await target.truncate(0);
      await this.#fillWith(guess.schema(), source, target);
    }
    return first;
  }

  async #fillWith(schema: Schema, source: FileHandle, target: FileHandle): Promise<void> {
    const { rowGroupRecords, rowGroupBytes, createdBy } = this.#options;
    const file = new ParquetFile(target, schema, this.#library, createdBy);
    let group = new RowGroup(schema);
    for await (const events of journalEvents(source)) {
      for (const event of events) {
        group.add(event);
        if (group.rows < rowGroupRecords && group.bytes < rowGroupBytes) continue;
        await file.write(group);
        group = new RowGroup(schema);
      }
    }
    if (group.rows > 0) await file.write(group);
    await file.finish();
  }

  async #intend(waiting: Waiting, identity: FileIdentity, wanted: BytePath): Promise<void> {
    const { fileSystem } = this.#context;
    for (let number = 0; ; number += 1) {
      const to = numbered(wanted, number);
      if (fileSystem.statSync(to) !== undefined) continue;
      const intent = { ...identity, to };
      await this.#context.saveMarks({ [INTENT + waiting.journal.path]: intent as unknown as Json });
      waiting.intent = intent;
      return;
    }
  }

  /** Gives the finished file its name, from wherever that stands. */
  async #name(waiting: Waiting): Promise<void> {
    const { fileSystem } = this.#context;
    const temp = tempOf(waiting.journal);
    for (let number = 1; ; number += 1) {
      const { to, ...identity } = waiting.intent!;
      // Not there: it has its name by now, and may even have lost it again to whoever collects finished files.
      if (!(await isFileAt(fileSystem, temp, identity))) return;
      try {
        await fileSystem.renameNoReplace(temp, to);
        return;
      } catch (error) {
        if (errnoOf(error) !== "EEXIST") throw error;
        // Where renaming is a link and an unlink, dying between them leaves both names.
        if (await isFileAt(fileSystem, to, identity)) return await this.#unlink(temp);
        // Somebody took the name. The new one must be known before it exists.
        const base = to.replace(/(-\d+)?\.parquet$/, ".parquet") as BytePath;
        await this.#intend(waiting, identity, numbered(base, number));
      }
    }
  }

  async #forget(journal: Journal, also: Marks = {}): Promise<void> {
    const marks = { [JOURNAL + journal.path]: undefined, [INTENT + journal.path]: undefined };
    await this.#context.saveMarks({ ...marks, ...also });
  }

  /** Deletes the oldest finished files; only those on the list, and only while the name still shows the same file. */
  async #removeBeyond(from: BytePath): Promise<void> {
    const { fileSystem, log, saveMarks } = this.#context;
    const finished = this.#finished.get(from) ?? [];
    const beyond = finished.slice(0, Math.max(0, finished.length - this.#options.keep));
    if (beyond.length === 0) return;
    try {
      for (const old of beyond) if (await isFileAt(fileSystem, old.path, old)) await this.#unlink(old.path);
      const kept = finished.slice(beyond.length);
      await saveMarks({ [FINISHED + from]: kept as unknown as Json });
      this.#finished.set(from, kept);
    } catch (error) {
      // They stay on the list for the next one.
      log.warn({ path: pathToText(from), error: toError(error).message }, "old Parquet files could not be deleted");
    }
  }

  async #unlink(path: BytePath): Promise<void> {
    try {
      await this.#context.fileSystem.unlink(path);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
    }
  }
}

export interface ConverterOptions {
  /** Undefined: found from each file's records. */
  readonly schema: Schema | undefined;
  readonly rowGroupRecords: number;
  readonly rowGroupBytes: number;
  /** Octal. */
  readonly mode: string;
  readonly keep: number;
  /** What the footer says has written the file. */
  readonly createdBy: string;
}

const JOURNAL = "journal:";
const INTENT = "parquet:";
const FINISHED = "finished:";

const tempOf = ({ path }: Journal) => `${path}.tmp` as BytePath;

function marksNamed<Value>(marks: ReadonlyMap<string, Json>, prefix: string): Map<BytePath, Value> {
  const found = new Map<BytePath, Value>();
  for (const [name, value] of marks) {
    if (name.startsWith(prefix)) found.set(name.slice(prefix.length) as BytePath, value as unknown as Value);
  }
  return found;
}
