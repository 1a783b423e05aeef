import type { ChannelRegistry } from "../channel/index.ts";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { GroupCommit } from "../checkpoint/group-commit.ts";
import type { Plan } from "../config/plan.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import type { MemoryBudget } from "../runtime/memory-budget.ts";
import type { Random } from "../runtime/random.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import type { DeadLetterBox } from "./dead-letter-box.ts";

/** Everything a pipeline is given; it makes nothing of the outside world itself. */
export interface PipelineEnvironment {
  readonly plan: Plan;
  readonly clock: Clock;
  readonly random: Random;
  readonly fileSystem: FileSystem;
  readonly log: Logger;
  readonly events: (component: string) => EventSink;
  readonly host: string;
  readonly channels: ChannelRegistry;
  readonly checkpoint: Checkpoint;
  readonly groupCommit: GroupCommit;
  readonly deadLetters: DeadLetterBox;
  readonly budget: MemoryBudget;
  /** A commit of the last ones failed: make room for one more try. */
  readonly onLastCommitFailed: (error: Error) => Promise<void>;
  /** To the supervisor: this component failed for good. */
  readonly onFailure: (error: Error, component: string) => void;
}
