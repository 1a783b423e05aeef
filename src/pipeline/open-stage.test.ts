import { describe, expect, it } from "vitest";
import { ChannelRegistry } from "../channel/index.ts";
import type { ChannelSize, Plan } from "../config/plan.ts";
import type { Batch } from "../record/batch.ts";
import type { SourceContext } from "../stage/contract.ts";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { planned } from "../testing/memory-plan.ts";
import type { PipelineEnvironment } from "./environment.ts";
import { createInput, openSource, type PlannedSource } from "./open-stage.ts";
import type { PipelineSourcePositions } from "./source-positions.ts";

const SIZE: ChannelSize = {
  bufferSize: 1,
  bufferBytes: 100,
  overflow: "block",
  sendTimeoutMs: 50,
  bufferSizeMin: 1,
  bufferSizeMax: 8,
};

function bench() {
  const warnings: { fields: object; message: string }[] = [];
  const clock = new ManualClock();
  const channels = new ChannelRegistry();
  const plan = { stateDir: "/state", channels: { input: () => SIZE, tailerPayload: SIZE } } as unknown as Plan;
  const log = { ...silentLogger, warn: (fields: object, message: string) => void warnings.push({ fields, message }) };
  const environment = { clock, channels, plan, log, events: () => undefined } as unknown as PipelineEnvironment;
  return { warnings, clock, channels, plan, environment };
}

describe("the channels of a pipeline", () => {
  it("have the bounds of their dynamic size from the configuration", async () => {
    const { channels, plan, environment } = bench();
    createInput(environment, plan, "out");
    let context: SourceContext | undefined;
    const open = (_: unknown, given: SourceContext) => {
      context = given;
      return Promise.resolve({} as never);
    };
    await openSource(environment, planned("in", { open }) as unknown as PlannedSource, {} as PipelineSourcePositions);
    context?.channel();
    expect(channels.list().map(({ channel, sizing }) => [channel, sizing?.min, sizing?.max])).toEqual([
      ["input", 1, 8],
      ["tailer_payload", 1, 8],
    ]);
  });

  it("tell, under block, of a Tailer that waits longer than send_timeout_ms, and let it wait on", async () => {
    const { clock, environment, warnings } = bench();
    let context: SourceContext | undefined;
    const open = (_: unknown, given: SourceContext) => {
      context = given;
      return Promise.resolve({} as never);
    };
    await openSource(environment, planned("in", { open }) as unknown as PlannedSource, {} as PipelineSourcePositions);
    const { sender, receiver } = context!.channel();
    const batch = { byteLength: 1, count: 1 } as Batch;
    await sender.send(batch);
    const waiting = sender.send(batch);
    await clock.advance(120);
    expect(warnings).toEqual([
      {
        fields: { component: "in", channel: "tailer_payload", waited_ms: 50 },
        message: "in has waited 50 ms for room in its channel; still waiting",
      },
      {
        fields: { component: "in", channel: "tailer_payload", waited_ms: 100 },
        message: "in has waited 100 ms for room in its channel; still waiting",
      },
    ]);
    receiver.tryRecv();
    await waiting;
  });
});
