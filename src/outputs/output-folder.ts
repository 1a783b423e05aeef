import { errnoOf } from "../errors.ts";
import { type BytePath, joinPath } from "../runtime/byte-path.ts";
import type { FileSystem } from "../runtime/file-system.ts";

const FOLDER_MODE = 0o755;

/** A record names an output that cannot or must not be made; its message says why. */
export class RefusedPath extends Error {}

/** The folder that a `path` with placeholders may fill; symbolic links in it may not lead out of it. */
export class OutputFolder {
  readonly #fileSystem: FileSystem;
  readonly #root: BytePath;

  private constructor(fileSystem: FileSystem, root: BytePath) {
    this.#fileSystem = fileSystem;
    this.#root = root;
  }

  static async open(fileSystem: FileSystem, root: BytePath): Promise<OutputFolder> {
    await fileSystem.mkdirs(root, FOLDER_MODE);
    return new OutputFolder(fileSystem, await fileSystem.realpath(root));
  }

  /**
   * The path without symbolic links of names below the root; folders on the way are made, each looked at before the next.
   * @throws RefusedPath where a link leads out of the root.
   */
  async place(names: readonly BytePath[]): Promise<BytePath> {
    let folder = this.#root;
    for (const name of names.slice(0, -1)) {
      const next = joinPath(folder, name);
      const real = await this.#real(next);
      if (real === undefined) await this.#fileSystem.mkdirs(next, FOLDER_MODE);
      folder = real ?? next;
    }
    const path = joinPath(folder, names.at(-1)!);
    return (await this.#real(path)) ?? path;
  }

  async #real(path: BytePath): Promise<BytePath | undefined> {
    let real: BytePath;
    try {
      real = await this.#fileSystem.realpath(path);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
    const inside = this.#root === "/" ? "/" : `${this.#root}/`;
    if (!real.startsWith(inside)) throw new RefusedPath("a symbolic link leads out of the folder of the outputs");
    return real;
  }
}
