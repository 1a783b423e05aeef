import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A clock that one process sees, by libfaketime: the machine's own is never touched. */
export class JumpingClock {
  readonly env: { readonly [name: string]: string };
  readonly #path: string;

  private constructor(library: string, path: string) {
    this.#path = path;
    this.env = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: path,
      FAKETIME_NO_CACHE: "1",
      // As on a machine whose clock is set: what counts time from the boot goes on, and files keep their times.
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      DONT_FAKE_MONOTONIC: "1",
      NO_FAKE_STAT: "1",
    };
    this.jump(0);
  }

  /** Undefined where libfaketime is not installed. */
  static find(folder: string): JumpingClock | undefined {
    const places = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].filter((place) => existsSync(place));
    const folders = places.flatMap((place) => [place, ...readdirSync(place).map((name) => join(place, name))]);
    const library = folders
      .map((place) => join(place, "faketime", "libfaketimeMT.so.1"))
      .find((path) => existsSync(path));
    return library === undefined ? undefined : new JumpingClock(library, join(folder, "clock"));
  }

  /** From now on the clock is so far from the true time. */
  jump(seconds: number): void {
    writeFileSync(this.#path, `${seconds < 0 ? "" : "+"}${seconds}\n`);
  }
}
