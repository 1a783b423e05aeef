import { describe, expect, it } from "vitest";
import { defineTransform } from "../stage/index.ts";
import { memoryPlan, planned } from "../testing/memory-plan.ts";
import { memorySink, memorySource } from "../testing/memory-stages.ts";
import { filter } from "../transforms/filter.ts";
import { json } from "../transforms/json.ts";
import { map } from "../transforms/map.ts";
import { withThreads } from "./with-threads.ts";

type Planned = ReturnType<typeof memoryPlan>["transforms"][number];

/** `name <- inputs` of each transform and sink of what becomes of such a plan. */
function shapeOf(transforms: readonly Planned[], sinks: { readonly [name: string]: string }, threads = 2): string[] {
  const plan = memoryPlan({
    sources: [planned("in", memorySource(new Map()))],
    transforms,
    sinks: Object.entries(sinks).map(([name, input]) => planned(name, memorySink({ texts: [], mark: 0 }), [input])),
  });
  const changed = withThreads({ ...plan, transformThreads: threads });
  return [...changed.transforms, ...changed.sinks].map(({ name, inputs }) => `${name} <- ${inputs.join(" ")}`);
}

const parse = planned("parse", json, ["in"]);
const keep = (input: string) => planned("keep", filter, [input]);
const shape = (input: string) => planned("shape", map, [input], { module: "x" });

describe("withThreads", () => {
  it("changes nothing without threads", () => {
    expect(shapeOf([parse, shape("parse")], { out: "shape" }, 0)).toEqual([
      "parse <- in",
      "shape <- parse",
      "out <- shape",
    ]);
  });

  it("makes one component of transforms one behind the other, named as their way is", () => {
    expect(shapeOf([parse, keep("parse"), shape("keep")], { out: "shape" })).toEqual([
      "parse>keep>shape <- in",
      "out <- parse>keep>shape",
    ]);
    expect(shapeOf([parse], { out: "parse" })).toEqual(["parse <- in", "out <- parse"]);
  });

  it("ends a run where somebody else reads too", () => {
    expect(shapeOf([parse, shape("parse")], { out: "shape", raw: "parse" })).toEqual([
      "parse <- in",
      "shape <- parse",
      "out <- shape",
      "raw <- parse",
    ]);
  });

  it("ends a run behind a map, which splits, and where a transform reads from several", () => {
    expect(shapeOf([parse, shape("parse"), keep("shape")], { out: "keep" })).toEqual([
      "parse>shape <- in",
      "keep <- parse>shape",
      "out <- keep",
    ]);
    const both = planned("both", map, ["parse", "keep"], { module: "x" });
    expect(shapeOf([parse, keep("in"), both], { out: "both" })).toEqual([
      "parse <- in",
      "keep <- in",
      "both <- parse keep",
      "out <- both",
    ]);
  });

  it("leaves in the agent's own thread what only filters, and code that only this process knows", () => {
    const own = defineTransform({ ...json, type: "json" });
    expect(withThreadsTypes([keep("in")])).toEqual(["filter"]);
    expect(withThreadsTypes([planned("own", own, ["in"])])).toEqual(["json"]);
    expect(withThreadsTypes([parse])).toEqual(["threads"]);
    const inline = planned("shape", map, ["parse"], { function: () => undefined });
    expect(shapeOf([parse, keep("parse"), { ...inline, inputs: ["keep"] }], { out: "shape" })).toEqual([
      "parse>keep <- in",
      "shape <- parse>keep",
      "out <- shape",
    ]);
  });

  it("can be asked twice, and gives a run the channel of its first", () => {
    const plan = memoryPlan({ sources: [], transforms: [parse, shape("parse")], sinks: [] });
    const asked: string[] = [];
    const input = (component: string) => {
      asked.push(component);
      return plan.channels.tap;
    };
    const once = withThreads({ ...plan, transformThreads: 1, channels: { ...plan.channels, input } });
    const twice = withThreads(once);
    expect(twice.transforms.map(({ name }) => name)).toEqual(["parse>shape"]);
    twice.channels.input("parse>shape");
    expect(asked).toEqual(["parse"]);
  });
});

function withThreadsTypes(transforms: readonly Planned[]): string[] {
  const plan = memoryPlan({ sources: [], transforms, sinks: [] });
  return withThreads({ ...plan, transformThreads: 1 }).transforms.map(({ definition }) => definition.type);
}
