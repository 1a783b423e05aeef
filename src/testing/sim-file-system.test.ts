import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { BytePath } from "../runtime/byte-path.ts";
import type { FileHandle } from "../runtime/file-system.ts";
import { ManualClock } from "./manual-clock.ts";
import { SeededRandom } from "./seeded-random.ts";
import { BLOCK_BYTES } from "./sim-content.ts";
import { SimDisk } from "./sim-disk.ts";
import { SimCrashed, SimFileSystem, type SimFileSystemOptions } from "./sim-file-system.ts";
import { SimPrograms } from "./sim-programs.ts";

const path = (text: string) => text as BytePath;

function machine(seed = 1, options: SimFileSystemOptions = {}) {
  const disk = new SimDisk({ clock: new ManualClock(), random: new SeededRandom(seed) });
  return { disk, files: new SimFileSystem(disk, options), programs: new SimPrograms(disk) };
}

async function readAll(handle: FileHandle): Promise<string> {
  const into = Buffer.alloc(1 << 16);
  let length = 0;
  for (;;) {
    const count = await handle.read(into, length, into.length - length, length);
    if (count === 0) return into.toString("latin1", 0, length);
    length += count;
  }
}

async function writeAt(handle: FileHandle, text: string, offset: number): Promise<void> {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) done += await handle.write(bytes, done, bytes.length - done, offset + done);
}

describe("SimFileSystem › power cut", () => {
  it("forgets a file whose name was not synced, even if its content was", async () => {
    const { files } = machine();
    const handle = await files.open(path("/out"), "create");
    await writeAt(handle, "hello", 0);
    await handle.datasync();
    const after = files.crash("nothing");
    expect(after.statSync(path("/out"))).toBeUndefined();
  });

  it("keeps the name and forgets the content where only the folder was synced", async () => {
    const { files } = machine();
    const handle = await files.open(path("/out"), "create");
    await writeAt(handle, "hello", 0);
    await files.syncFolder(path("/"));
    expect(files.crash("nothing").statSync(path("/out"))).toMatchObject({ size: 0, links: 1 });
  });

  it("keeps what was synced and nothing that was appended later", async () => {
    const { files, programs } = machine();
    const handle = await files.open(path("/out"), "create");
    await files.syncFolder(path("/"));
    await writeAt(handle, "hello", 0);
    const syncing = handle.datasync();
    await writeAt(handle, " world", 5);
    await syncing;
    expect(programs.read("/out").toString()).toBe("hello world");
    files.crash("nothing");
    expect(programs.read("/out").toString()).toBe("hello");
  });

  it("may keep any of the unsynced blocks and any length up to the present one", async () => {
    const lengths = new Set<number>();
    let holes = 0;
    for (let seed = 0; seed < 60; seed += 1) {
      const { files, programs } = machine(seed);
      const handle = await files.open(path("/out"), "create");
      await writeAt(handle, "a".repeat(100), 0);
      await handle.sync();
      await files.syncFolder(path("/"));
      await writeAt(handle, "b".repeat(3 * BLOCK_BYTES), 100);
      files.crash("anything");
      const left = programs.read("/out").toString("latin1");
      expect(left.slice(0, 100)).toBe("a".repeat(100));
      expect(left.slice(100)).toMatch(/^[b\0]*$/);
      lengths.add(left.length);
      if (/\0.*b/s.test(left)) holes += 1;
    }
    expect(Math.min(...lengths)).toBe(100);
    expect(Math.max(...lengths)).toBe(100 + 3 * BLOCK_BYTES);
    expect(lengths.size).toBeGreaterThan(10);
    expect(holes).toBeGreaterThan(0);
  });

  it("keeps a prefix of the unsynced changes of names, never a later one without the earlier", () => {
    const outcomes = new Set<string>();
    for (let seed = 0; seed < 60; seed += 1) {
      const { files, programs } = machine(seed);
      programs.create("/a");
      programs.rename("/a", "/b");
      programs.create("/a");
      files.crash("anything");
      outcomes.add(programs.list("/").join(","));
    }
    expect([...outcomes].sort()).toEqual(["", "a", "a,b", "b"]);
  });

  it("makes both sides of a rename across folders durable when one of them is synced", async () => {
    const { files, programs } = machine();
    programs.mkdirs("/x");
    programs.mkdirs("/y");
    programs.create("/x/a");
    await files.syncFolder(path("/"));
    programs.rename("/x/a", "/y/a");
    await files.syncFolder(path("/y"));
    files.crash("nothing");
    expect([programs.list("/x"), programs.list("/y")]).toEqual([[], ["a"]]);
  });

  it("shows the old content or the new one after an unsynced truncation, never a mixture", async () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 60; seed += 1) {
      const { files, programs } = machine(seed);
      const handle = await files.open(path("/out"), "create");
      await writeAt(handle, "old!", 0);
      await handle.sync();
      await files.syncFolder(path("/"));
      await handle.truncate(0);
      await writeAt(handle, "new", 0);
      files.crash("anything");
      seen.add(programs.read("/out").toString().replaceAll("\0", "."));
    }
    for (const content of seen) expect(["old!", "", "new", "ne", "n", ".", "..", "..."]).toContain(content);
    expect(seen).toContain("old!");
    expect(seen).toContain("new");
  });

  it("never shows content that was lost to a failed sync, although the next sync succeeds", async () => {
    const { files, programs } = machine();
    const handle = await files.open(path("/out"), "create");
    await files.syncFolder(path("/"));
    await writeAt(handle, "lost", 0);
    files.failCall("datasync", "EIO");
    await expect(handle.datasync()).rejects.toMatchObject({ code: "EIO" });
    expect(await readAll(handle)).toBe("lost");
    await handle.datasync();
    files.crash("everything");
    expect(programs.read("/out").toString()).toBe("\0\0\0\0");
  });

  it("keeps what a later sync made durable, whatever became of one that a killed process had begun", async () => {
    for (let seed = 0; seed < 40; seed += 1) {
      const { files, programs, disk } = machine(seed);
      const handle = await files.open(path("/out"), "create");
      await files.syncFolder(path("/"));
      await writeAt(handle, "old", 0);
      await handle.truncate(0);
      await writeAt(handle, "new", 0);
      void handle.datasync();
      files.processKill();
      const next = new SimFileSystem(disk);
      const again = await next.open(path("/out"), "write");
      await again.datasync();
      next.crash("anything");
      expect(programs.read("/out").toString()).toBe("new");
    }
  });

  it("counts a page that another sync is writing back as part of a sync", async () => {
    for (let seed = 0; seed < 40; seed += 1) {
      const { files, programs, disk } = machine(seed, { delayChance: 0.5 });
      const handle = await disk.clock.run(files.open(path("/out"), "create"));
      await disk.clock.run(files.syncFolder(path("/")));
      await disk.clock.run(writeAt(handle, "text", 0));
      void handle.datasync();
      await disk.clock.run(handle.datasync());
      files.crash("nothing");
      expect(programs.read("/out").toString()).toBe("text");
    }
  });

  it("gives no inode number to two files, whatever was durable", () => {
    for (let seed = 0; seed < 100; seed += 1) {
      const { files, programs, disk } = machine(seed);
      programs.mkdirs("/x");
      programs.mkdirs("/y");
      programs.create("/x/a", "one");
      disk.syncAll();
      programs.unlink("/x/a");
      programs.create("/y/b", "two");
      disk.syncFolder(disk.inodeAt("/y"));
      const after = files.crash("anything");
      const numbers = ["/x", "/y", "/x/a", "/y/b"].flatMap((name) => after.statSync(path(name))?.inode ?? []);
      expect(new Set(numbers).size).toBe(numbers.length);
    }
  });

  it("ends every process: old calls are never answered, new ones reject", async () => {
    const { files, programs, disk } = machine();
    programs.create("/log", "text");
    disk.syncAll();
    const handle = await files.open(path("/log"), "read");
    let isAnswered = false;
    void handle.stat().then(() => {
      isAnswered = true;
    });
    const after = files.crash("nothing");
    await disk.clock.settle();
    expect(isAnswered).toBe(false);
    await expect(handle.stat()).rejects.toBeInstanceOf(SimCrashed);
    await expect(files.stat(path("/log"))).rejects.toBeInstanceOf(SimCrashed);
    expect(() => files.statSync(path("/log"))).toThrow(SimCrashed);
    expect((await after.stat(path("/log"))).size).toBe(4);
  });
});

describe("SimFileSystem › process kill", () => {
  it("keeps the page cache and frees what only the dead process held", async () => {
    const { files, programs, disk } = machine();
    const handle = await files.open(path("/out"), "create");
    await writeAt(handle, "kept", 0);
    programs.create("/held", "12345");
    await files.open(path("/held"), "read");
    programs.unlink("/held");
    expect(disk.usedBytes).toBe(9);
    files.processKill();
    expect(disk.usedBytes).toBe(4);
    expect((await new SimFileSystem(disk).stat(path("/out"))).size).toBe(4);
  });
});

describe("SimFileSystem › names and inodes", () => {
  it("hands a freed inode number out again at once, but not while somebody holds the file", async () => {
    const { files, programs } = machine();
    programs.create("/a");
    const first = (await files.stat(path("/a"))).inode;
    programs.unlink("/a");
    programs.create("/b");
    expect((await files.stat(path("/b"))).inode).toBe(first);
    const handle = await files.open(path("/b"), "read");
    programs.unlink("/b");
    programs.create("/c");
    expect((await files.stat(path("/c"))).inode).not.toBe(first);
    expect(await handle.stat()).toMatchObject({ inode: first, links: 0 });
    await handle.close();
    programs.create("/d");
    expect((await files.stat(path("/d"))).inode).toBe(first);
  });

  it("lets a file be read and written after its last name is gone", async () => {
    const { files, programs } = machine();
    const writer = programs.openWriter("/log");
    writer.write("one\n");
    const handle = await files.open(path("/log"), "read");
    programs.unlink("/log");
    writer.write("two\n");
    expect(await readAll(handle)).toBe("one\ntwo\n");
  });

  it("gives the number freed last to the very next file, if told so", () => {
    const disk = new SimDisk({ random: new SeededRandom(1), lastFreedFirst: true });
    const programs = new SimPrograms(disk);
    for (const name of ["/a", "/b", "/c"]) programs.create(name);
    const number = disk.inodeAt("/c").number;
    programs.unlink("/a");
    programs.unlink("/c");
    programs.create("/d");
    expect(disk.inodeAt("/d").number).toBe(number);
  });

  it("says since when a file is open", async () => {
    const { disk, files, programs } = machine();
    programs.create("/a");
    expect(files.openSinceMs(disk.inodeAt("/a"))).toBeUndefined();
    await disk.clock.advance(5);
    const first = await files.open(path("/a"), "read");
    await disk.clock.advance(5);
    const second = await files.open(path("/a"), "read");
    expect(files.openSinceMs(disk.inodeAt("/a"))).toBe(5);
    await first.close();
    expect(files.openSinceMs(disk.inodeAt("/a"))).toBe(10);
    await second.close();
  });

  it("leaves a hole where a writer without O_APPEND goes on after a truncation", () => {
    const { programs } = machine();
    const writer = programs.openWriter("/log", { append: false });
    writer.write("12345");
    programs.truncate("/log");
    writer.write("6");
    expect(programs.read("/log").toString("latin1")).toBe("\0\0\0\0\x006");
  });

  it("compresses as gzip does: half-way both names are there", () => {
    const { programs } = machine();
    programs.create("/log.1", "content");
    const compressing = programs.beginGzip("/log.1");
    expect(programs.list("/")).toEqual(["log.1", "log.1.gz"]);
    expect(() => gunzipSync(programs.read("/log.1.gz"))).toThrow();
    compressing.finish();
    expect(programs.list("/")).toEqual(["log.1.gz"]);
    expect(gunzipSync(programs.read("/log.1.gz")).toString()).toBe("content");
  });
});

describe("SimFileSystem › faults", () => {
  it("refuses what permissions forbid, and what lies in a forbidden folder", async () => {
    const { files, programs } = machine();
    programs.mkdirs("/x");
    programs.create("/x/a", "a");
    programs.deny("/x/a");
    await expect(files.open(path("/x/a"), "read")).rejects.toMatchObject({ code: "EACCES" });
    expect((await files.stat(path("/x/a"))).size).toBe(1);
    programs.deny("/x");
    await expect(files.stat(path("/x/a"))).rejects.toMatchObject({ code: "EACCES" });
    expect(() => files.statSync(path("/x/a"))).toThrow("EACCES");
    programs.deny("/x", false);
    programs.deny("/x/a", false);
    expect(await readAll(await files.open(path("/x/a"), "read"))).toBe("a");
  });

  it("writes what still fits and then says ENOSPC, until room is made", async () => {
    const { files, programs, disk } = machine();
    programs.create("/other", "12345");
    disk.capacityBytes = 8;
    const handle = await files.open(path("/out"), "create");
    expect(await handle.write(Buffer.from("abcdef"), 0, 6, 0)).toBe(3);
    await expect(handle.write(Buffer.from("def"), 0, 3, 3)).rejects.toMatchObject({ code: "ENOSPC" });
    expect(await handle.write(Buffer.from("X"), 0, 1, 0)).toBe(1);
    programs.unlink("/other");
    expect(await handle.write(Buffer.from("def"), 0, 3, 3)).toBe(3);
  });

  it("opens no more than the limit of descriptors", async () => {
    const { files, programs } = machine(1, { maxOpen: 1 });
    programs.create("/a");
    const handle = await files.open(path("/a"), "read");
    await expect(files.open(path("/a"), "read")).rejects.toMatchObject({ code: "EMFILE" });
    await handle.close();
    await files.open(path("/a"), "read");
    expect(files.openCount).toBe(1);
  });

  it("fails the N-th call of a kind, on one path if told so", async () => {
    const { files, programs } = machine();
    programs.create("/a");
    programs.create("/b");
    files.failCall("stat", "EIO", { after: 1, times: 2, path: path("/a") });
    const outcomes: string[] = [];
    for (const name of ["/a", "/b", "/a", "/b", "/a", "/a"])
      outcomes.push(
        await files.stat(path(name)).then(
          () => "ok",
          (error) => (error as { code: string }).code,
        ),
      );
    expect(outcomes).toEqual(["ok", "ok", "EIO", "ok", "EIO", "ok"]);
  });

  it("reads and writes short by seed, and never nothing", async () => {
    const { files } = machine(1, { shortReads: 1, shortWrites: 1 });
    const handle = await files.open(path("/a"), "create");
    expect(await handle.write(Buffer.from("abcdefgh"), 0, 8, 0)).toBeLessThan(8);
    await writeAt(handle, "abcdefgh", 0);
    expect(await readAll(handle)).toBe("abcdefgh");
    expect(files.callsOf("read")).toBeGreaterThan(2);
  });
});

describe("SimFileSystem › schedules", () => {
  it("can be killed before and after the effect of any call", async () => {
    for (const [steps, content] of [
      [1, ""],
      [2, "x"],
    ] as const) {
      const disk = new SimDisk({ clock: new ManualClock(), random: new SeededRandom(1) });
      let left = Number.POSITIVE_INFINITY;
      const files: SimFileSystem = new SimFileSystem(disk, {
        deadCalls: "hang",
        onStep: () => {
          left -= 1;
          if (left === 0) files.processKill();
        },
      });
      const handle = await files.open(path("/a"), "create");
      left = steps;
      void handle.write(Buffer.from("x"), 0, 1, 0);
      await disk.clock.settle();
      expect(files.isDead).toBe(true);
      expect(new SimPrograms(disk).read("/a").toString()).toBe(content);
    }
  });

  it("lets calls that are under way together take effect in any order, the same one for the same seed", async () => {
    const orders = new Set<string>();
    const run = async (seed: number) => {
      const { files, disk } = machine(seed, { delayChance: 0.5 });
      const handle = await disk.clock.run(files.open(path("/a"), "create"));
      const done: number[] = [];
      await disk.clock.run(
        Promise.all([0, 1, 2].map((n) => handle.write(Buffer.from(`${n}`), 0, 1, 0).then(() => done.push(n)))),
      );
      return `${done.join("")} ${new SimPrograms(disk).read("/a")} ${disk.clock.monotonic()}`;
    };
    for (let seed = 0; seed < 20; seed += 1) {
      const order = await run(seed);
      expect(await run(seed)).toBe(order);
      orders.add(order.slice(0, 3));
    }
    expect(orders.size).toBeGreaterThan(2);
  });

  it("tells a watcher what changed in its folder, unless the notification is lost", async () => {
    const { files, programs, disk } = machine();
    programs.mkdirs("/logs");
    programs.create("/logs/a");
    const told: (string | undefined)[] = [];
    const watch = files.watchFolder(
      path("/logs"),
      (name) => told.push(name),
      () => {},
    );
    programs.append("/logs/a", "x");
    programs.create("/elsewhere");
    await disk.clock.advance(1000);
    expect(told).toHaveLength(1);
    disk.lostNotifications = 1;
    programs.append("/logs/a", "y");
    await disk.clock.advance(1000);
    expect(told).toHaveLength(1);
    disk.lostNotifications = 0;
    programs.append("/logs/a", "z");
    watch.close();
    await disk.clock.advance(1000);
    expect(told).toHaveLength(1);
  });

  it("after any actions and a power cut that keeps nothing, shows exactly what was synced last", async () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant("write" as const), at: fc.nat(9000), length: fc.integer({ min: 1, max: 5000 }) }),
      fc.record({ kind: fc.constant("truncate" as const), at: fc.nat(9000), length: fc.constant(0) }),
      fc.record({ kind: fc.constant("sync" as const), at: fc.constant(0), length: fc.constant(0) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 12 }), fc.integer(), async (actions, seed) => {
        const { files, programs } = machine(seed);
        const handle = await files.open(path("/f"), "create");
        await files.syncFolder(path("/"));
        let synced: Buffer = Buffer.alloc(0);
        for (const [index, { kind, at, length }] of actions.entries()) {
          if (kind === "write") await handle.write(Buffer.alloc(length, 65 + index), 0, length, at);
          else if (kind === "truncate") await handle.truncate(at);
          else {
            await handle.datasync();
            synced = programs.read("/f");
          }
        }
        files.crash("nothing");
        expect(programs.read("/f").equals(synced)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });
});
