import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { systemClock } from "../runtime/clock.ts";
import { lockDirectory } from "../runtime/directory-lock.ts";
import { systemRandom } from "../runtime/random.ts";
import { silentLogger } from "../telemetry/log.ts";
import { contractBatch } from "../testing/transform-contract.ts";
import {
  batchOf,
  type DeadLetter,
  type DeadLetterReader,
  type DeadLetterStore,
  DeadLetterWriter,
  firstLetters,
  letterOf,
  memoryDeadLetters,
  openDeadLetters,
  openDeadLettersForReading,
} from "./index.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-dead-letters-"));
  cleanups.push(() => rmSync(folder, { recursive: true }));
  return join(folder, "dead-letters");
}

async function lmdbStore(maxBytes = 1e6, folder = newFolder()): Promise<DeadLetterStore> {
  const store = await openDeadLetters({ folder, maxBytes, random: systemRandom });
  cleanups.push(() => store.close());
  return store;
}

function letters(texts: readonly string[], component = "out", reason = "too large"): DeadLetter[] {
  return contractBatch(texts).records.map((record) =>
    letterOf(record, { component, reason, attempts: 2, nowMs: 1000 }),
  );
}

async function all<T>(from: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of from) found.push(item);
  return found;
}

const ids = async (store: DeadLetterReader, filter = {}) => (await all(store.list(filter))).map(({ id }) => id);
const sizeOf = (some: readonly DeadLetter[]) =>
  some.reduce((sum, letter) => sum + Buffer.byteLength(JSON.stringify(letter)), 0);

describe.each([
  ["memory", async (maxBytes?: number) => memoryDeadLetters({ maxBytes: maxBytes ?? 1e6, random: systemRandom })],
  ["lmdb", lmdbStore],
])("a dead letter store (%s)", (_name, open: (maxBytes?: number) => Promise<DeadLetterStore>) => {
  it("lists letters in the order in which they came, whole", async () => {
    const store = await open();
    const [first, second, third] = letters(["a", "b", "c"]);
    await store.put([third!]);
    await store.put([first!, second!]);
    expect(await all(store.list())).toEqual([third, first, second]);
    expect(await store.get(second!.id)).toEqual(second);
    expect(await store.get("no such id")).toBeUndefined();
    expect([store.count, store.bytes]).toEqual([3, sizeOf([first!, second!, third!])]);
  });

  it("lists more letters than fit on a page", async () => {
    const store = await open();
    const many = letters(Array.from({ length: 450 }, (_, index) => `line ${index}`));
    await store.put(many);
    expect(await ids(store)).toEqual(many.map(({ id }) => id));
    expect(await store.purge()).toBe(450);
    expect(await ids(store)).toEqual([]);
    expect([store.count, store.bytes]).toEqual([0, 0]);
  });

  it("shows fewer letters at once where they are large, and lists all of them", async () => {
    const store = await open(1e9);
    const large = letters(Array.from({ length: 12 }, (_, index) => `${index}`.padEnd(1024 * 1024, "x")));
    for (const letter of large) await store.put([letter]);
    // Each is an event and its bytes in base64: 2.3 MiB.
    expect(await firstLetters(store, 1000)).toHaveLength(4);
    expect(await firstLetters(store, 2)).toHaveLength(2);
    expect(await ids(store)).toEqual(large.map(({ id }) => id));
  });

  it("keeps one letter of a record and component, however often it is put", async () => {
    const store = await open();
    const [letter] = letters(["a"]);
    const later = { ...letter!, reason: "still too large", attempts: 9 };
    await store.put([letter!, letter!]);
    await store.put(letters(["a"], "other"));
    await store.put([later]);
    expect((await all(store.list())).map(({ component, attempts }) => [component, attempts])).toEqual([
      ["out", 9],
      ["other", 2],
    ]);
    expect(store.bytes).toBe(sizeOf([later, ...letters(["a"], "other")]));
  });

  it("lists and purges by component", async () => {
    const store = await open();
    await store.put([...letters(["a", "b"], "one"), ...letters(["a"], "two")]);
    expect(await ids(store, { component: "two" })).toHaveLength(1);
    expect(await store.purge({ component: "one" })).toBe(2);
    expect((await all(store.list())).map(({ component }) => component)).toEqual(["two"]);
  });

  it("refuses what does not fit, all of it, and takes it once there is room", async () => {
    const [first, second, third] = letters(["a", "b", "c"]);
    const store = await open(sizeOf([first!, second!]));
    await store.put([first!]);
    await expect(store.put([second!, third!])).rejects.toMatchObject({
      code: "TR_DEAD_LETTERS_FULL",
      // A replay alone makes no room where the component of the letters is the one that waits.
      message: expect.stringMatching(/`tailrace dlq purge`, or .*`tailrace dlq replay` and a restart$/),
    });
    expect(await ids(store)).toEqual([first!.id]);
    await store.put([second!]);
    expect(store.isFull).toBe(true);
    await store.put([first!]);
    expect(await store.remove([first!.id, first!.id, "no such id"])).toBe(1);
    expect(store.isFull).toBe(false);
    await store.put([third!]);
    expect(await ids(store)).toEqual([second!.id, third!.id]);
  });

  it("takes a letter larger than all of it, when it is empty", async () => {
    const store = await open(1);
    await store.put(letters(["a"]));
    await expect(store.put(letters(["b"], "other"))).rejects.toMatchObject({ code: "TR_DEAD_LETTERS_FULL" });
  });

  it("removes a letter once its replay is through", async () => {
    const store = await open();
    const [first, second] = letters(["a", "b"]);
    await store.put([first!, second!]);
    expect(await store.markForReplay([second!.id, "no such id"])).toBe(1);
    const orders = await all(store.pendingReplay());
    expect(orders.map(({ letter }) => letter)).toEqual([second]);
    expect(await store.finishReplay(orders.map(({ letter, token }) => ({ id: letter.id, token })))).toBe(1);
    expect(await ids(store)).toEqual([first!.id]);
    expect(await all(store.pendingReplay())).toEqual([]);
  });

  it("keeps a letter that was refused again during its replay, whenever the replay is finished", async () => {
    const store = await open();
    const [letter] = letters(["a"]);
    await store.put([letter!]);
    await store.markForReplay([letter!.id]);
    const [order] = await all(store.pendingReplay());
    await store.put([{ ...letter!, attempts: 3 }]);
    expect(await all(store.pendingReplay())).toEqual([]);
    expect(await store.finishReplay([{ id: letter!.id, token: order!.token }])).toBe(0);
    await store.markForReplay([letter!.id]);
    expect(await store.finishReplay([{ id: letter!.id, token: order!.token }])).toBe(0);
    expect(await ids(store)).toEqual([letter!.id]);
  });

  it("takes an order for a letter that is ordered already as the same order", async () => {
    const store = await open();
    const [first, second] = letters(["a", "b"]);
    await store.put([first!, second!]);
    await store.markForReplay([first!.id]);
    const [order] = await all(store.pendingReplay());
    expect(await store.markForReplay([first!.id, second!.id])).toBe(2);
    const orders = await all(store.pendingReplay());
    expect(orders[0]).toEqual(order);
    expect(orders.map(({ letter }) => letter)).toEqual([first, second]);
    expect(await store.finishReplay([{ id: first!.id, token: order!.token }])).toBe(1);
  });

  it("hands out no order for a letter that was refused again since it was begun with", async () => {
    const store = await open();
    const [first, second, third] = letters(["a", "b", "c"]);
    await store.put([first!, second!, third!]);
    await store.markForReplay([first!.id, second!.id, third!.id]);
    const sent: string[] = [];
    for await (const { letter } of store.pendingReplay()) {
      sent.push(letter.id);
      await store.put([{ ...second!, attempts: 3 }]);
    }
    expect(sent).toEqual([first!.id, third!.id]);
  });

  it("lists what was there when it began, however many come meanwhile", async () => {
    const store = await open();
    const many = letters(Array.from({ length: 250 }, (_, index) => `line ${index}`));
    await store.put(many);
    let seen = 0;
    for await (const { id } of store.list()) {
      expect(id).toBe(many[seen]?.id);
      seen += 1;
      if (seen % 50 === 0) await store.put(letters(["another"], `other ${seen}`));
    }
    expect(seen).toBe(250);
  });

  it("takes changes that are asked for at once, one after the other", async () => {
    const store = await open();
    const [first, second] = letters(["a", "b"]);
    const changes = [store.put([first!]), store.put([first!, second!]), store.remove([first!.id]), store.put([first!])];
    await Promise.all(changes);
    expect([store.count, store.bytes]).toEqual([2, sizeOf([first!, second!])]);
    expect(await ids(store)).toEqual([second!.id, first!.id]);
  });
});

describe("openDeadLetters", () => {
  it("finds everything again, orders too, and goes on counting", async () => {
    const folder = newFolder();
    const [first, second, third] = letters(["a", "b", "c"]);
    const before = await openDeadLetters({ folder, maxBytes: 1e6, random: systemRandom });
    await before.put([first!, second!]);
    await before.markForReplay([first!.id]);
    await before.close();
    const store = await lmdbStore(1e6, folder);
    expect([store.count, store.bytes]).toEqual([2, sizeOf([first!, second!])]);
    expect((await all(store.pendingReplay())).map(({ letter }) => letter.id)).toEqual([first!.id]);
    await store.put([third!]);
    expect(await ids(store)).toEqual([first!.id, second!.id, third!.id]);
  });

  it("makes a folder that only its owner can enter, and files that only it can read, whatever the umask", async () => {
    const folder = newFolder();
    const umask = process.umask(0);
    try {
      await lmdbStore(1e6, folder);
    } finally {
      process.umask(umask);
    }
    const modes = ["", "data.mdb", "lock.mdb", "created"].map((name) => statSync(join(folder, name)).mode & 0o777);
    expect(modes).toEqual([0o700, 0o600, 0o600, 0o600]);
  });

  it("refuses a damaged store instead of dying of it", async () => {
    const folder = newFolder();
    const store = await openDeadLetters({ folder, maxBytes: 1e6, random: systemRandom });
    await store.put(letters(Array.from({ length: 100 }, (_, index) => `line ${index}`)));
    await store.close();
    truncateSync(join(folder, "data.mdb"), 16384);
    await expect(openDeadLetters({ folder, maxBytes: 1e6, random: systemRandom })).rejects.toMatchObject({
      code: "TR_STATE_DAMAGED",
    });
    await expect(openDeadLettersForReading(folder)).rejects.toMatchObject({ code: "TR_STATE_DAMAGED" });
  });

  it.each([
    ["missing", (path: string) => rmSync(path)],
    ["empty", (path: string) => truncateSync(path, 0)],
  ])("refuses a store that was used and is %s, instead of making a new one", async (_found, damage) => {
    const folder = newFolder();
    await (await openDeadLetters({ folder, maxBytes: 1e6, random: systemRandom })).close();
    damage(join(folder, "data.mdb"));
    await expect(openDeadLetters({ folder, maxBytes: 1e6, random: systemRandom })).rejects.toMatchObject({
      code: "TR_STATE_DAMAGED",
    });
  });

  it("reads while another process writes, and sees what that commits", async () => {
    const folder = newFolder();
    const writer = await lmdbStore(1e6, folder);
    const [first, second] = letters(["a", "b"]);
    await writer.put([first!]);
    // LMDB must not be opened twice in one process, so the reader is a process of its own.
    const script = join(folder, "..", "reader.mjs");
    writeFileSync(
      script,
      `import { createJiti } from ${JSON.stringify(import.meta.resolve("jiti"))};
       const jiti = createJiti(import.meta.url, { fsCache: false });
       const { openDeadLettersForReading } = await jiti.import(${JSON.stringify(join(import.meta.dirname, "index.ts"))});
       const reader = await openDeadLettersForReading(process.argv[2]);
       process.stdin.on("data", async () => {
         const ids = [];
         for await (const { id } of reader.list()) ids.push(id);
         process.stdout.write(JSON.stringify(ids) + "\\n");
       });
       process.stdin.on("end", () => process.exit(0));`,
    );
    const reader = spawn(process.execPath, [script, folder], { stdio: ["pipe", "pipe", "inherit"] });
    cleanups.push(() => reader.kill("SIGKILL"));
    const ask = async () => {
      reader.stdin.write("?\n");
      const [answer] = await once(reader.stdout, "data");
      return JSON.parse(String(answer)) as string[];
    };
    expect(await ask()).toEqual([first!.id]);
    await writer.put([second!]);
    expect(await ask()).toEqual([first!.id, second!.id]);
    reader.stdin.end();
    await once(reader, "exit");
  });

  it("looks at no page that it does not need where a running process vouches for the store", async () => {
    const folder = newFolder();
    const store = await openDeadLetters({ folder, maxBytes: 1e6, random: systemRandom });
    const [first, second] = letters(["a", "b".repeat(10_000)]);
    await store.put([first!, second!]);
    await store.close();
    // The head of the page that holds the large letter: a writer that reuses pages makes a reader see the like of it.
    const bytes = readFileSync(join(folder, "data.mdb"));
    const page = Math.floor(bytes.indexOf(`{"id":"${second!.id}"`) / 4096) * 4096;
    writeFileSync(join(folder, "data.mdb"), bytes.fill(0xff, page, page + 16));
    const running = await lockDirectory(join(folder, ".."));
    const reader = await openDeadLettersForReading(folder);
    expect(await reader.get(first!.id)).toEqual(first);
    await reader.close();
    running.release();
    await expect(openDeadLettersForReading(folder)).rejects.toMatchObject({ code: "TR_STATE_DAMAGED" });
  });

  it("reads a store that nobody made as an empty one, and makes none", async () => {
    const folder = newFolder();
    const reader = await openDeadLettersForReading(folder);
    expect(await ids(reader)).toEqual([]);
    expect(await all(reader.pendingReplay())).toEqual([]);
    expect(await reader.get("x")).toBeUndefined();
    expect(existsSync(folder)).toBe(false);
    await reader.close();
  });

  it("reads a closed store and leaves its bytes as they are", async () => {
    const folder = newFolder();
    const store = await openDeadLetters({ folder, maxBytes: 1e6, random: systemRandom });
    const some = letters(["a", "b"]);
    await store.put(some);
    await store.close();
    const before = readFileSync(join(folder, "data.mdb"));
    const reader = await openDeadLettersForReading(folder);
    expect(await all(reader.list())).toEqual(some);
    await reader.close();
    expect(readFileSync(join(folder, "data.mdb")).equals(before)).toBe(true);
  });
});

function mounted(disk: string, size: string): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", disk], { stdio: "ignore" });
  } catch {
    if (process.env["CI"] === "true") throw new Error("CI must be able to mount a tmpfs (run as root)");
    console.warn("SKIPPED: a full disk cannot be tested without the right to mount a tmpfs");
    return false;
  }
  cleanups.push(() => execFileSync("umount", [disk]));
  return true;
}

describe("openDeadLetters, on a full disk", () => {
  it("deletes letters, one by one and all, and takes others then", async (context) => {
    const disk = mkdtempSync(join(tmpdir(), "tailrace-full-disk-"));
    cleanups.push(() => rmSync(disk, { recursive: true }));
    if (!mounted(disk, "6m")) return context.skip();
    const store = await lmdbStore(1e9, join(disk, "dead-letters"));
    const putUntilFull = async (lines: number, component: string) => {
      for (let round = 0; ; round += 1) {
        const texts = Array.from({ length: lines }, () => "x".repeat(3000));
        try {
          await store.put(letters(texts, `${component} ${round}`));
        } catch (error) {
          return expect(error).toMatchObject({ code: "TR_COMMIT_FAILED" });
        }
      }
    };
    await putUntilFull(20, "many");
    // Whatever is left goes to somebody else, and then the last room in the store itself.
    const ballast = openSync(join(disk, "ballast"), "w");
    expect(() => {
      for (;;) writeSync(ballast, Buffer.alloc(4096));
    }).toThrow("ENOSPC");
    closeSync(ballast);
    await putUntilFull(1, "one");
    const [id] = await ids(store);
    expect(await store.remove([id!])).toBe(1);
    const { count } = store;
    expect(count).toBeGreaterThan(200);
    expect(await store.purge()).toBe(count);
    expect(await ids(store)).toEqual([]);
    await store.put(letters(["a"]));
    await store.close();
  });

  it("refuses letters, keeps and reads what it has, and takes them once there is room", async (context) => {
    const disk = mkdtempSync(join(tmpdir(), "tailrace-full-disk-"));
    cleanups.push(() => rmSync(disk, { recursive: true }));
    if (!mounted(disk, "2m")) return context.skip();
    const filler = join(disk, "filler");
    writeFileSync(filler, Buffer.alloc(700 * 1024));
    const folder = join(disk, "dead-letters");
    const store = await lmdbStore(1e9, folder);
    const batch = (round: number) =>
      letters(
        Array.from({ length: 5 }, (_, index) => `${round} ${index} ${"x".repeat(5000)}`),
        `out ${round}`,
      );
    let rounds = 0;
    let failure: unknown;
    while (failure === undefined) {
      await store.put(batch(rounds)).then(
        () => {
          rounds += 1;
        },
        (error: unknown) => {
          failure = error;
        },
      );
      expect(rounds).toBeLessThan(100);
    }
    expect(rounds).toBeGreaterThan(0);
    expect(failure).toMatchObject({ code: "TR_COMMIT_FAILED", message: expect.stringContaining("ENOSPC") });
    for (let time = 0; time < 3; time += 1)
      await expect(store.put(batch(rounds))).rejects.toMatchObject({ code: "TR_COMMIT_FAILED" });
    expect([await ids(store), store.count]).toEqual([
      Array.from({ length: rounds }, (_, round) => batch(round).map(({ id }) => id)).flat(),
      rounds * 5,
    ]);
    rmSync(filler);
    await store.put(batch(rounds));
    expect(store.count).toBe(rounds * 5 + 5);
    await store.close();
    const again = await lmdbStore(1e9, folder);
    expect(await ids(again)).toHaveLength(rounds * 5 + 5);
    await again.close();
  });
});

describe("letterOf and batchOf", () => {
  it("bring an untouched record back byte for byte, with its id", () => {
    const [record] = contractBatch(["a\ufffd b"], { offset: 7 }).records;
    const letter = letterOf(record!, { component: "out", reason: "r", attempts: 1, nowMs: 0 });
    const settled = vi.fn();
    const batch = batchOf(JSON.parse(JSON.stringify(letter)) as DeadLetter, settled);
    const [again] = batch.records;
    expect(again!.id).toBe(record!.id);
    expect(batch.lines?.bytes).toEqual(Buffer.from("a\ufffd b\n"));
    expect(again!.event).toEqual(record!.event);
    expect([again!.offset, batch.ranges]).toEqual([7, [record!.range]]);
    batch.origin.onSettled?.(batch.ranges);
    expect(settled).toHaveBeenCalledOnce();
  });

  it("bring a part of a split back with its event and index", () => {
    const [whole] = contractBatch(["line"]).records;
    const part = whole!.with({ x: 1 }, 2);
    const batch = batchOf(letterOf(part, { component: "out", reason: "r", attempts: 1, nowMs: 0 }), () => {});
    expect(batch.records.map(({ id, event }) => ({ id, event }))).toEqual([{ id: part.id, event: { x: 1 } }]);
  });
});

describe("DeadLetterWriter", () => {
  const events: { name: string; facts: unknown }[] = [];
  const writerOf = (store: DeadLetterStore) => {
    events.length = 0;
    const emit = (name: string, _message: string, facts?: unknown) => void events.push({ name, facts });
    return new DeadLetterWriter({
      store,
      clock: systemClock,
      random: systemRandom,
      events: { emit },
      log: silentLogger,
    });
  };
  const rejections = (texts: readonly string[]) =>
    contractBatch(texts).records.map((record) => ({ record, reason: "bad" }));

  it("waits while the store is full, and goes on once there is room", async () => {
    const store = memoryDeadLetters({ maxBytes: 10, random: systemRandom });
    await store.put(letters(["first"], "other"));
    const put = writerOf(store).put("out", rejections(["a"]), 1, new AbortController().signal);
    expect(await Promise.race([put, systemClock.sleep(20).then(() => "waiting")])).toBe("waiting");
    await store.purge();
    expect(await put).toBe(true);
    expect((await all(store.list())).map(({ component }) => component)).toEqual(["out"]);
  });

  it("gives up, without having dropped anything for good, when it is told to", async () => {
    const store = memoryDeadLetters({ maxBytes: 10, random: systemRandom });
    await store.put(letters(["first"], "other"));
    const abort = new AbortController();
    const put = writerOf(store).put("out", rejections(["a"]), 1, abort.signal);
    abort.abort();
    expect(await put).toBe(false);
  });

  it("reports every letter, but a flood only now and then", async () => {
    const store = memoryDeadLetters({ maxBytes: 1e6, random: systemRandom });
    const writer = writerOf(store);
    for (const text of ["a", "b", "c"]) await writer.put("out", rejections([text]), 1, new AbortController().signal);
    expect(events).toHaveLength(1);
    writer.flush();
    writer.flush();
    expect(events.map(({ facts }) => facts)).toEqual([
      { component: "out", records: 1, reason: "bad" },
      { component: "out", records: 2, reason: "bad" },
    ]);
  });
});
