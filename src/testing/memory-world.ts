import { ChannelRegistry } from "../channel/index.ts";
import { Checkpoint } from "../checkpoint/checkpoint.ts";
import { GroupCommit } from "../checkpoint/group-commit.ts";
import { MemoryCheckpointStore } from "../checkpoint/memory-store.ts";
import type { Plan } from "../config/plan.ts";
import { openPipeline } from "../pipeline/build.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import { systemClock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { MemoryBudget } from "../runtime/memory-budget.ts";
import { systemRandom } from "../runtime/random.ts";
import type { Rejection } from "../stage/contract.ts";
import { silentLogger } from "../telemetry/log.ts";

/** What is left of a process when it is gone, and pipelines that run in it: for tests. */
export class MemoryWorld {
  readonly store = new MemoryCheckpointStore();
  readonly letters: Rejection[] = [];
  readonly failures: string[] = [];
  readonly events: { component: string; event: string; facts: unknown }[] = [];

  async open(plan: Plan, isDead = () => false): Promise<{ pipeline: Pipeline; channels: ChannelRegistry }> {
    const checkpoint = await Checkpoint.load(this.store);
    const channels = new ChannelRegistry();
    const store: Pick<MemoryCheckpointStore, "commit"> = {
      commit: (changes) => (isDead() ? Promise.reject(new Error("killed")) : this.store.commit(changes)),
    };
    const pipeline = await openPipeline({
      plan,
      clock: systemClock,
      random: systemRandom,
      fileSystem: {} as FileSystem,
      log: silentLogger,
      events: (component) => ({
        emit: (event, _message, facts) => void this.events.push({ component, event, facts }),
      }),
      host: "test",
      channels,
      checkpoint,
      groupCommit: new GroupCommit(store, {
        clock: systemClock,
        onCommitted: (changes) => checkpoint.applied(changes),
      }),
      deadLetters: {
        put: async (_component, rejections) => {
          this.letters.push(...rejections);
          return true;
        },
      },
      budget: new MemoryBudget(1 << 20, 1 << 16),
      onLastCommitFailed: async () => {},
      onFailure: (error, component) => void this.failures.push(`${component}: ${error.message}`),
    });
    return { pipeline, channels };
  }

  /** Until the sources have ended and everything is committed. */
  async runOnce(plan: Plan): Promise<void> {
    const { pipeline } = await this.open(plan);
    await pipeline.run({ signal: new AbortController().signal, once: true });
    await pipeline.close();
  }

  /** Until `until` resolves, then drops everything as a kill would. */
  async runAndKill(plan: Plan, until: () => Promise<unknown>): Promise<void> {
    let isDead = false;
    const { pipeline } = await this.open(plan, () => isDead);
    const running = pipeline.run({ signal: new AbortController().signal, once: true });
    await until();
    isDead = true;
    pipeline.committer.stop();
    pipeline.abandon();
    // A write that nobody answers goes on for ever.
    running.catch(() => {});
  }
}
