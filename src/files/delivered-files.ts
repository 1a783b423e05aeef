import { toError } from "../errors.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";
import type { SourcePositions } from "../stage/contract.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Contents } from "./contents.ts";
import type { FileIds } from "./file-id.ts";
import type { FileRegistry } from "./file-registry.ts";
import type { FileState } from "./file-state.ts";

interface DeliveredFilesOptions {
  readonly fileRegistry: FileRegistry;
  readonly contents: Contents;
  readonly ids: FileIds;
  readonly positions: SourcePositions;
  readonly clock: Clock;
  readonly fileSystem: FileSystem;
  readonly log: Logger;
  /** 0: never. */
  readonly removeAfterMs: number;
}

/** `remove_after_ms`: files that were quiet for so long and are committed to their end are deleted. */
export class DeliveredFiles {
  readonly #options: DeliveredFilesOptions;

  constructor(options: DeliveredFilesOptions) {
    this.#options = options;
  }

  async remove(): Promise<void> {
    const { fileRegistry, clock, log, removeAfterMs } = this.#options;
    if (removeAfterMs === 0) return;
    for (const [path, use] of [...fileRegistry.paths]) {
      if (use.kind !== "file" || clock.now() - use.stat.modifiedMs < removeAfterMs) continue;
      if (!this.#isDelivered(path, use.state, use.stat)) continue;
      try {
        await this.#removeIfSame(path, use.state, use.stat);
      } catch (error) {
        log.warn({ file: pathToText(path), error: toError(error).message }, "cannot delete a delivered file");
      }
    }
  }

  #isDelivered(path: BytePath, state: FileState, stat: FileStat): boolean {
    const { positions, contents } = this.#options;
    if (state.lagBytes > 0) return false;
    const committed = Math.max(positions.committedOf(state.key), state.start);
    if (contents.formatOf(path) === undefined) return committed >= stat.size;
    const { archive } = state;
    const isWhole = archive === undefined || (archive.damage === undefined && archive.bytes === stat.size);
    return state.phase === "finished" && committed >= state.size && isWhole;
  }

  /** Only exactly what was read; a name that leads elsewhere by now is none of ours. */
  async #removeIfSame(path: BytePath, state: FileState, stat: FileStat): Promise<void> {
    const { fileSystem, ids, log } = this.#options;
    const now = fileSystem.statSync(path);
    if (now === undefined || ids.idOf(now) !== state.id) return;
    if (now.size !== stat.size || now.modifiedMs !== stat.modifiedMs) return;
    await fileSystem.unlink(path);
    log.info({ file: pathToText(path) }, "deleted a file that was delivered and quiet for remove_after_ms");
  }
}
