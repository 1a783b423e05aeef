import type { Clock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import type { Random } from "../runtime/random.ts";
import type { SourcePositions } from "../stage/contract.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Contents } from "./contents.ts";
import type { FileIds } from "./file-id.ts";
import type { FileRegistry } from "./file-registry.ts";
import type { PathPatterns } from "./glob.ts";
import type { Readers } from "./readers.ts";
import type { RotationPlaces } from "./rotation-places/rotation-places.ts";
import type { Watcher } from "./watcher.ts";

/** What discovery and its parts work with. */
export interface DiscoveryOptions {
  readonly places: RotationPlaces;
  readonly source: string;
  readonly fileRegistry: FileRegistry;
  readonly contents: Contents;
  readonly watcher: Watcher;
  readonly patterns: PathPatterns;
  readonly ids: FileIds;
  readonly fileSystem: FileSystem;
  readonly positions: SourcePositions;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventSink;
  readonly log: Logger;
  readonly readFrom: "beginning" | "end";
  readonly rotateWaitMs: number;
  readonly scanIntervalMs: number;
  /** 0: off. */
  readonly ignoreOlderMs: number;
  readonly isOnce: boolean;
  readonly readers: Readers;
}
