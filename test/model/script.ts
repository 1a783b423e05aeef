import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import type { Action, Kind } from "./actions.ts";
import { concerns, Family } from "./family.ts";
import type { Ledger } from "./ledger.ts";
import { LogFiles } from "./log-files.ts";
import { LogRotation } from "./log-rotation.ts";
import { LogWriters } from "./log-writers.ts";
import { LOGS, type ModelMachine, OLD, OUTPUT, REAL } from "./machine.ts";

export interface ScriptOptions {
  readonly kinds: ReadonlySet<Kind>;
  /** The agent's globs take rotated names in too. */
  readonly readsSiblings: boolean;
  /** Of the second sink, if there is one. */
  readonly moods: { mood: "well" | "down" | "hanging" };
}

/** Carries out actions on the machine and keeps the ledger. An action that makes no sense at the time does nothing. */
export class Script {
  readonly #files: LogFiles;
  readonly #writers: LogWriters;
  readonly #rotation: LogRotation;
  readonly #machine: ModelMachine;
  readonly #families: readonly Family[];
  readonly #random: SeededRandom;
  readonly #options: ScriptOptions;

  constructor(machine: ModelMachine, ledger: Ledger, random: SeededRandom, options: ScriptOptions) {
    this.#machine = machine;
    this.#files = new LogFiles(machine, ledger);
    this.#random = random;
    this.#options = options;
    const { kinds, readsSiblings } = options;
    const isOlddir = kinds.has("olddir");
    this.#writers = new LogWriters(machine, this.#files, random, kinds);
    this.#rotation = new LogRotation(machine, this.#files, this.#writers, random, { readsSiblings, isOlddir });
    this.#families = [
      new Family("a", { isLink: false, isBeating: kinds.has("beats") }),
      new Family("b", { isLink: false, isBeating: false }),
      ...(kinds.has("symlinks") ? [new Family("c", { isLink: true, isBeating: false })] : []),
    ];
  }

  async run(action: Action): Promise<void> {
    // There is no third one in a story that does without symbolic links.
    const family = this.#families[action.family];
    if (family !== undefined && concerns(action, family)) await this.#act(action, family);
    await this.#machine.clock.advance(action.pauseMs);
  }

  /** Everything that was begun is finished and every obstacle removed, so that all that is owed can arrive. */
  async mend(): Promise<void> {
    const { programs, disk, files } = this.#machine;
    for (const folder of [LOGS, REAL, OLD])
      for (const name of programs.list(folder))
        if (this.#files.has(`${folder}/${name}`)) programs.deny(`${folder}/${name}`, false);
    for (const family of this.#families) {
      await this.#rotation.truncateCopied(family);
      if (family.writer !== undefined) this.#writers.finishLine(family);
      this.#rotation.finishPacking(family);
    }
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    this.#machine.failingCommits = 0;
    this.#options.moods.mood = "well";
    files?.mend();
    await this.#machine.clock.settle();
  }

  async #act({ kind, amount }: Action, family: Family): Promise<void> {
    const machine = this.#machine;
    const { programs, disk } = machine;
    const isThere = family.file !== undefined && !family.isCopied;
    switch (kind) {
      case "write":
        if (!family.isCopied) this.#writers.writeLines(family, amount);
        return;
      case "write_half":
        if (!family.isCopied) this.#writers.writeHalf(family);
        return;
      case "write_late":
        if (family.late !== undefined)
          this.#writers.line(family, family.late.writer, family.late.file, { isLate: true });
        return;
      case "rename":
        if (isThere) await this.#rotation.rename(family);
        return;
      case "copy":
        if (isThere) await this.#rotation.copy(family);
        return;
      case "truncate_copied":
        return this.#rotation.truncateCopied(family);
      case "compress":
        return this.#rotation.compress(family);
      case "finish_compress":
        return this.#rotation.finishPacking(family);
      case "truncate":
        if (!isThere) return;
        this.#writers.finishLine(family);
        return this.#files.truncate(family.path);
      case "delete":
        if (isThere) await this.#rotation.delete(family);
        return;
      case "delete_oldest":
        return this.#rotation.deleteOldest(family);
      case "deny":
        if (!programs.exists(family.path)) return;
        programs.deny(family.path);
        return machine.trouble(true);
      case "allow":
        if (!programs.exists(family.path)) return;
        programs.deny(family.path, false);
        return machine.trouble(false);
      case "kill":
        return machine.kill();
      case "power_cut":
        for (const one of this.#families) {
          this.#writers.powerCut(one);
          this.#rotation.finishPacking(one);
        }
        return machine.powerCut();
      case "stop":
        if (!machine.isUp) return;
        // A graceful stop waits for the disk, and for its sinks.
        disk.capacityBytes = Number.POSITIVE_INFINITY;
        this.#options.moods.mood = "well";
        return machine.stop();
      case "start":
        if (!machine.isUp) await this.#start();
        return;
      case "commits_fail":
        machine.failingCommits = amount;
        return machine.trouble(true);
      case "sync_fails":
        machine.files?.failCall("datasync", "EIO", { times: Math.ceil(amount / 2), path: OUTPUT as never });
        return machine.trouble(true);
      case "disk_full":
        disk.capacityBytes = disk.usedBytes + amount * 10;
        return;
      case "disk_free":
        disk.capacityBytes = Number.POSITIVE_INFINITY;
        return machine.trouble(false);
      case "open_fails":
        machine.files?.failCall("open", this.#random.pick(["EMFILE", "EACCES", "EIO"]), {
          times: amount,
          path: family.path as never,
        });
        return machine.trouble(true);
      case "wait":
        return;
      case "link":
        return this.#rotation.link(family);
      case "unlink_link":
        return this.#rotation.unlinkLink(family);
      case "switch":
        return this.#rotation.switch(family, amount);
      case "save":
        if (isThere) await this.#rotation.save(family);
        return;
      case "grow":
        return this.#rotation.grow(family);
      case "damage":
        return this.#rotation.damage(family);
      case "sink_down":
        this.#options.moods.mood = "down";
        return machine.trouble(true);
      case "sink_hangs":
        this.#options.moods.mood = "hanging";
        return machine.trouble(true);
      case "sink_up":
        this.#options.moods.mood = "well";
        return;
      case "steal":
        return this.#steal(family);
      case "overwrite":
        if (isThere) await this.#rotation.overwrite(family, amount);
        return;
      case "recreate":
        if (!isThere) return;
        await this.#rotation.delete(family);
        return this.#writers.writeLines(family, amount);
      case "missed":
        return this.#missed(family, amount);
      case "flurry":
        return this.#flurry(family, amount);
      case "crashes":
        return this.crash(amount);
      case "reload":
        return machine.reload();
    }
  }

  /** The inode number of a file that goes is the next one's, of another family. */
  async #steal(family: Family): Promise<void> {
    const other = this.#families.find((one) => one !== family && !one.isLink && !one.isBeating);
    if (other === undefined || other.isCopied) return;
    if (family.rotated.length > 0) await this.#rotation.deleteOldest(family);
    else if (!family.isLink && family.file !== undefined && !family.isCopied) await this.#rotation.delete(family);
    if (other.file !== undefined) await this.#rotation.rename(other, { creates: true });
    this.#writers.writeLines(other, this.#random.int(1, 3));
  }

  async #missed(family: Family, rotations: number): Promise<void> {
    this.#machine.kill();
    for (let rotation = 0; rotation < Math.min(3, rotations); rotation += 1) {
      if (family.isCopied) await this.#rotation.truncateCopied(family);
      this.#writers.writeLines(family, this.#random.int(1, 3));
      if (this.#random.chance(0.6) && !family.isBeating) await this.#rotation.rename(family);
      else {
        await this.#rotation.copy(family);
        await this.#rotation.truncateCopied(family);
      }
      if (this.#random.chance(0.3)) this.#rotation.compress(family);
      await this.#machine.clock.advance(this.#random.pick([0, 10, 5000]));
    }
    if (this.#random.chance(0.7)) this.#writers.writeLines(family, this.#random.int(1, 6));
    await this.#start();
  }

  async #flurry(family: Family, rotations: number): Promise<void> {
    for (let rotation = 0; rotation < rotations * 2; rotation += 1) {
      if (family.isCopied) return;
      this.#writers.writeLines(family, 1);
      await this.#rotation.rename(family, { creates: true });
      while (family.rotated.length > 3) await this.#rotation.deleteOldest(family);
      await this.#machine.clock.advance(60);
    }
  }

  // ------------------------------------------------------------ the machine

  /** kill -9 between any two awaits, so many times. */
  async crash(times: number): Promise<void> {
    const machine = this.#machine;
    for (let time = 0; time < times; time += 1) {
      if (!machine.isUp) await this.#start();
      machine.killAfter(this.#random.pick([1, 2, 3, 5, 8, 13, 20, 30, 50, 80]));
      await machine.clock.advance(this.#random.pick([0, 1, 10, 60, 400]));
    }
    if (!machine.isUp && this.#random.chance(0.7)) await this.#start();
  }

  async #start(): Promise<void> {
    await this.#machine.start();
    const isDenied = this.#families.some(({ file }) => file?.inode.isDenied === true);
    if (isDenied || this.#options.moods.mood !== "well") this.#machine.trouble(true);
  }
}
