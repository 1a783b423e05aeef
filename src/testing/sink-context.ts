import { systemClock } from "../runtime/clock.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { systemRandom } from "../runtime/random.ts";
import type { SinkContext } from "../stage/index.ts";
import { silentLogger } from "../telemetry/log.ts";
import { memoryStageChannels } from "./memory-stage-channels.ts";

/** What a sink is handed, with the real clock and files, and without a state directory; for tests of sinks alone. */
export function sinkContext(over: Partial<SinkContext> = {}): SinkContext {
  return {
    name: "out",
    log: silentLogger,
    events: { emit() {} },
    clock: systemClock,
    random: systemRandom,
    fileSystem: nodeFileSystem,
    host: "test",
    stateDir: "/nonexistent",
    channels: memoryStageChannels(),
    marks: new Map(),
    saveMarks: () => Promise.resolve(),
    wasCleanStop: true,
    ...over,
  };
}
