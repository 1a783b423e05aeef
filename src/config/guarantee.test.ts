import { describe, expect, it } from "vitest";
import { loadSample } from "../../test/config/sample-stages.ts";
import { builtInStages } from "../stages.ts";
import { guarantees } from "./guarantee.ts";
import { loadPlan } from "./index.ts";

const sources = `
[sources.app]
type = "file"
include = ["/x"]
[sources.in]
type = "stdin"
[sources.q]
type = "queue"
url = "u"
[transforms.a]
type = "json"
inputs = ["app"]
[transforms.b]
type = "json"
inputs = ["app"]
[sinks.out]
type = "file"
path = "o"
inputs = ["a", "in", "q"]
`;

async function judged(toml: string): Promise<{ [pair: string]: string }> {
  const { plan } = await loadSample({ "a.toml": toml }, { configs: ["a.toml"] });
  return Object.fromEntries(guarantees(plan).map((one) => [one.path.join(" "), one.guarantee]));
}

describe("guarantees", () => {
  it("are exactly once only from a replayable source into a sink that keeps positions", async () => {
    expect(await judged(`${sources}[sinks.web]\ntype = "http"\nurl = "http://h/"\ninputs = ["b", "in"]\n`)).toEqual({
      "app a out": "exactly_once",
      "app b web": "at_least_once",
      "in out": "at_most_once",
      "in web": "best_effort",
      "q out": "at_least_once",
    });
  });

  it("are exactly once from a queue where the sink stores no record id twice", async () => {
    const url = "postgres://h/d";
    const sinks = {
      made: { type: "postgres", url, table: "a", create: true, inputs: ["q"] },
      theirs: { type: "postgres", url, table: "b", inputs: ["q"] },
      queue: { type: "pgmq", url, queue: "d", inputs: ["q"] },
    };
    const config = { sources: { q: { type: "pgmq", url, queue: "c" } }, sinks };
    const { plan } = await loadPlan({ stages: builtInStages, env: {}, cwd: "/", made: { by: "test", config } });
    const found = guarantees(plan);
    expect(found.map(({ sink, guarantee }) => [sink, guarantee])).toEqual([
      ["made", "exactly_once"],
      ["theirs", "at_least_once"],
      ["queue", "at_least_once"],
    ]);
    expect(found[0]!.reasons.join()).toContain("unique on the record id");
  });

  it("are at most once from time slots, which are dropped and not waited for", async () => {
    const sinks = { out: { type: "file", path: "o", inputs: ["slots"] } };
    const config = { sources: { slots: { type: "timeslots" } }, sinks };
    const { plan } = await loadPlan({ stages: builtInStages, env: {}, cwd: "/", made: { by: "test", config } });
    expect(guarantees(plan)).toMatchObject([
      {
        guarantee: "at_most_once",
        reasons: expect.arrayContaining([
          'slots drops time slots while nobody takes them (overflow = "drop_newest"); dropped ones are counted',
        ]),
      },
    ]);
  });

  it("fall to at least once where a record reaches the sink by two ways", async () => {
    const found = await judged(sources.replace('"a", "in", "q"', '"a", "b", "in", "q"'));
    expect(found["app a out"]).toBe("at_least_once");
  });

  it("fall to at most once where a channel on the way drops", async () => {
    const dropping = `${sources.replace('"a", "in"', '"a", "b", "in"')}[mpsc_channels.components.out]\noverflow = "drop_oldest"\n`;
    const toml = dropping
      .replace('["a", "b", ', '["a", ')
      .replace('inputs = ["app"]\n[sinks', 'inputs = ["a"]\n[sinks');
    const { plan } = await loadSample(
      { "a.toml": `${toml}[sinks.two]\ntype = "file"\npath = "p"\ninputs = ["b"]\n` },
      { configs: ["a.toml"] },
    );
    const all = guarantees(plan);
    const out = all.find(({ source, sink }) => source === "app" && sink === "out");
    expect(out?.guarantee).toBe("at_most_once");
    expect(out?.reasons.join()).toContain("the input of out drops records");
    expect(all.find(({ sink }) => sink === "two")).toMatchObject({
      guarantee: "exactly_once",
      path: ["app", "a", "b", "two"],
    });
  });

  it("say what a kill repeats at most, with the figures of the configuration", async () => {
    const sinks = {
      web: { type: "http", url: "http://h/", inputs: ["app"] },
      out: { type: "file", path: "/o", inputs: ["app"] },
    };
    const sources = { app: { type: "file", include: ["/x"], max_batch_bytes: 65536 } };
    const config = { checkpoint: { commit_interval_ms: 250 }, sources, sinks };
    const { plan } = await loadPlan({ stages: builtInStages, env: {}, cwd: "/", made: { by: "test", config } });
    const [web, out] = guarantees(plan).map(({ reasons }) => reasons.join("; "));
    expect(web).toContain("at most 8 batches in flight (one for each file), each of up to 65536 bytes as read");
    expect(web).toContain("acknowledged in the last 250 ms (commit_interval_ms)");
    expect(web).toContain("up to 268435456 bytes (max_uncommitted_bytes)");
    expect(out).not.toContain("after a kill");
  });

  it("are lost by a sink that is not required, and say that it may drop", async () => {
    const web = { type: "http", url: "http://h/", inputs: ["app"], required: false, max_lag_bytes: 5000 };
    const out = { type: "file", path: "/o", inputs: ["app"] };
    const config = { sources: { app: { type: "file", include: ["/x"] } }, sinks: { web, out } };
    const { plan } = await loadPlan({ stages: builtInStages, env: {}, cwd: "/", made: { by: "test", config } });
    expect(guarantees(plan).map(({ sink, guarantee }) => [sink, guarantee])).toEqual([
      ["web", "best_effort"],
      ["out", "exactly_once"],
    ]);
    expect(guarantees(plan)[0]!.reasons.join()).toContain("more than 5000 bytes behind (max_lag_bytes) it drops");
  });
});
