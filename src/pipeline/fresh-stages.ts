import type { Plan } from "../config/plan.ts";
import type { Sink, Transform } from "../stage/contract.ts";
import { Backlog } from "./backlog.ts";
import type { Committer } from "./committer.ts";
import type { PipelineEnvironment } from "./environment.ts";
import { createInput, openSink, openTransform, type PlannedSink, type PlannedTransform } from "./open-stage.ts";
import type { SinkPart, TransformPart } from "./parts.ts";
import type { PlanDifference } from "./plan-difference.ts";
import { sinkRunner, transformRunner } from "./runners.ts";

/** What was opened for a reload, beside what runs, and takes part only once all of it is open. */
export class Fresh {
  readonly #stages: (Sink | Transform)[] = [];
  /** New ones, and those that take the place of one with other options. */
  readonly transforms = new Map<PlannedTransform, Transform>();
  readonly sinkParts = new Map<string, SinkPart>();
  readonly transformParts = new Map<string, TransformPart>();
  takesPart = false;

  /** @throws StageError; nothing stays open then. */
  static async open(
    { transforms, sinks }: PlanDifference,
    next: Plan,
    given: {
      readonly environment: PipelineEnvironment;
      readonly committer: Committer;
      readonly abortTransforms: AbortSignal;
    },
  ): Promise<Fresh> {
    const { environment, committer, abortTransforms } = given;
    const fresh = new Fresh();
    const opened = new Map<PlannedSink, Sink>();
    try {
      for (const planned of sinks.added) {
        const sink = await openSink(environment, planned);
        opened.set(planned, sink);
        fresh.#stages.push(sink);
      }
      for (const planned of [...transforms.added, ...transforms.changed]) {
        const transform = await openTransform(environment, planned);
        fresh.transforms.set(planned, transform);
        fresh.#stages.push(transform);
      }
    } catch (error) {
      await fresh.dispose();
      throw error;
    }
    // Nothing below can fail: no channel is made for a stage that is not open.
    for (const [planned, sink] of opened) {
      const input = createInput(environment, next, planned.name, planned.maxLagBytes);
      const runner = sinkRunner(environment, committer, planned, sink, input);
      const backlog = new Backlog(planned.maxLagBytes, committer.hurry);
      fresh.sinkParts.set(planned.name, { planned, sink, runner, input, backlog });
    }
    for (const planned of transforms.added) {
      const transform = fresh.transforms.get(planned)!;
      const input = createInput(environment, next, planned.name);
      const runner = transformRunner(environment, committer, abortTransforms, planned, transform, input);
      fresh.transformParts.set(planned.name, { planned, transform, runner, input });
    }
    return fresh;
  }

  async dispose(): Promise<void> {
    for (const { input } of [...this.sinkParts.values(), ...this.transformParts.values()]) {
      input.sender.close();
      input.receiver.close();
    }
    for (const stage of this.#stages) {
      // Why the reload failed is what counts.
      await Promise.resolve(stage[Symbol.asyncDispose]?.()).catch(() => {});
    }
  }
}
