import type { BytePath } from "../runtime/byte-path.ts";
import type { Output } from "./output.ts";

/** The open outputs, the one not used for longest first. */
export class OpenOutputs {
  readonly #limit: number;
  readonly #byPath = new Map<BytePath, Output>();
  /** What a template made of a record -> the path it stands for, without symbolic links; for open outputs. */
  readonly #paths = new Map<string, BytePath>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  [Symbol.iterator](): IterableIterator<Output> {
    return this.#byPath.values();
  }

  has(path: BytePath): boolean {
    return this.#byPath.has(path);
  }

  /** The path that was put under this key; kept as long as its output is open. */
  pathOf(key: string): BytePath | undefined {
    return this.#paths.get(key);
  }

  /** The open output of a path; from now on the one that was used last. */
  use(path: BytePath, key: string): Output | undefined {
    const output = this.#byPath.get(path);
    if (output !== undefined) this.put(output, key);
    return output;
  }

  put(output: Output, key: string): void {
    this.#byPath.delete(output.path);
    this.#byPath.set(output.path, output);
    this.#paths.set(key, output.path);
  }

  /** Another output takes the place of the one under its path. */
  exchange(fresh: Output): void {
    this.#byPath.set(fresh.path, fresh);
  }

  drop(output: Output): void {
    this.#byPath.delete(output.path);
    for (const [key, path] of this.#paths) if (path === output.path) this.#paths.delete(key);
  }

  /**
   * Makes room for one more by having `leave` drop and close the output not used for longest, of those that are clean: the
   * others' fsync is still to come, and must come through the descriptor that wrote. False if there is none; rejects as
   * `leave` does.
   */
  async makeRoom(isNeeded: (output: Output) => boolean, leave: (output: Output) => Promise<void>): Promise<boolean> {
    if (this.#byPath.size < this.#limit) return true;
    for (const output of this.#byPath.values()) {
      const isIdle = output.isClean && output.isReady && output.hold === undefined && output.intent === undefined;
      if (!isIdle || isNeeded(output)) continue;
      await leave(output);
      return this.#byPath.size < this.#limit;
    }
    return false;
  }

  clear(): void {
    this.#byPath.clear();
    this.#paths.clear();
  }
}
