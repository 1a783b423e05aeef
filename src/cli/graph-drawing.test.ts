import { describe, expect, it } from "vitest";
import { loadPlan } from "../config/index.ts";
import { builtInStages } from "../stages.ts";
import { FORMATS, graphOfPlan } from "./graph-drawing.ts";

async function draw(format: keyof typeof FORMATS, config?: object): Promise<string> {
  const { plan } = await loadPlan({
    stages: builtInStages,
    env: {},
    cwd: "/nowhere",
    made: {
      by: "test",
      config: config ?? {
        sources: { app: { type: "file", include: ["/x"] } },
        transforms: { parse: { type: "json", inputs: ["app"] } },
        sinks: {
          out: { type: "file", inputs: ["parse", "app"], path: "/out" },
          gone: { type: "blackhole", inputs: ["parse"] },
        },
        mpsc_channels: { components: { gone: { buffer_size: 1, overflow: "drop_oldest" } } },
      },
    },
  });
  return FORMATS[format](graphOfPlan(plan));
}

describe("graph", () => {
  it("draws each component and each channel with its size and policy as a tree of characters", async () => {
    expect(await draw("ascii")).toBe(`app (source, file)
\`- app/tailer_payload: 1,024 messages, 64.0 MiB, block
   |- parse/input: 1,000 messages, 64.0 MiB, block
   |  \`- parse (transform, json)
   |     |- out/input: 1,000 messages, 64.0 MiB, block
   |     |  \`- out (sink, file)
   |     \`- gone/input: 1 message, 64.0 MiB, drop_oldest
   |        \`- gone (sink, blackhole)
   \`- out/input: 1,000 messages, 64.0 MiB, block (see above)
`);
  });

  it("draws the designed channels that components share, once each", async () => {
    const work = { type: "handler", inputs: ["app"], command: [process.execPath] };
    const drawn = await draw("ascii", {
      sources: { app: { type: "file", include: ["/x"] } },
      sinks: { work, more: work },
      mpsc_channels: { shared: { ffi: { ruby_event_buffer_size: 7 } } },
    });
    expect(drawn).toContain(`
   |  \`- work (sink, handler)
   |     |- shared/ffi: 7 messages, error
   |     |- worker/command_processor: 1,000 messages, block
   |     |- worker/in_process_events: 1,000 messages, drop_oldest
   |     \`- task_readiness/event_channel: 1,000 messages, block
`);
    expect(
      (
        await draw("mermaid", { sources: { app: { type: "file", include: ["/x"] } }, sinks: { work, more: work } })
      ).match(/shared\/ffi/g),
    ).toHaveLength(1);
  });

  it.each([
    {
      format: "mermaid",
      head: "flowchart LR",
      edge: /^ {2}n\d+ --> n\d+$/,
      node: /^ {2}n\d+(\(\[|\[|\[\(|\{\{)".*"(\]\)|\]|\)\]|\}\})$/,
    },
    {
      format: "dot",
      head: "digraph tailrace {",
      edge: /^ {2}".*" -> ".*";$/,
      node: /^ {2}".*" \[shape=\w+, label=".*"\];$/,
    },
  ] as const)("draws the same as $format", async ({ format, head, edge, node }) => {
    const rows = (await draw(format)).trimEnd().split("\n");
    expect(rows.shift()).toBe(head);
    // Four components, four channels; a channel has one way in from each input, and one way out.
    expect(rows.filter((row) => edge.test(row))).toHaveLength(8);
    expect(rows.filter((row) => node.test(row) && !edge.test(row))).toHaveLength(8);
    expect(rows.find((row) => row.includes("gone/input"))).toContain("1 message, 64.0 MiB, drop_oldest");
  });
});
