import { spawnSync } from "node:child_process";
import { closeSync, cpSync, mkdirSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "../errors.ts";

/** A tmpfs that is full whenever the torture says so. */
export class FullDisk {
  readonly path: string;
  readonly #filler: string;
  isFull = false;
  freedAtMs = 0;

  private constructor(path: string) {
    this.path = path;
    this.#filler = join(path, "filler");
  }

  /** Undefined where this process may not mount one. */
  static mount(path: string, bytes: number): FullDisk | undefined {
    mkdirSync(path, { recursive: true });
    const run = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${bytes},mode=0700`, "tmpfs", path], {
      stdio: "ignore",
    });
    return run.status === 0 ? new FullDisk(path) : undefined;
  }

  /** Leaves no byte. */
  fill(): void {
    const filler = openSync(this.#filler, "a");
    const block = Buffer.alloc(1 << 20);
    try {
      for (let bytes = block.length; bytes >= 4096; )
        try {
          writeSync(filler, block, 0, bytes);
        } catch (error) {
          if (errnoOf(error) !== "ENOSPC") throw error;
          bytes /= 2;
        }
    } finally {
      closeSync(filler);
    }
    this.isFull = true;
  }

  /** Takes back what `fill` took. */
  free(): void {
    rmSync(this.#filler, { force: true });
    this.isFull = false;
    this.freedAtMs = Date.now();
  }

  /** Copies what is on it to a folder, before it goes. */
  keepIn(folder: string): void {
    this.free();
    cpSync(this.path, folder, { recursive: true });
  }

  unmount(): void {
    spawnSync("umount", ["-l", this.path], { stdio: "ignore" });
  }
}
