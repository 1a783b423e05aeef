import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { builtInStages } from "../stages.ts";
import { configJsonSchema } from "./json-schema.ts";
import { loadPlan } from "./load.ts";

interface Schema {
  readonly type?: string;
  readonly default?: unknown;
  readonly description?: string;
  readonly writeOnly?: boolean;
  readonly additionalProperties?: boolean | Schema;
  readonly properties: { readonly [key: string]: Schema };
  readonly required?: readonly string[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly const?: unknown;
}

const schema = configJsonSchema(builtInStages) as Schema;

const at = (...path: string[]) => path.reduce((level, key) => level.properties[key]!, schema);

const stage = (section: string, type: string) =>
  (schema.properties[section]!.additionalProperties as Schema).oneOf!.find(
    ({ properties }) => properties["type"]!.const === type,
  )!;

const sources = { app: { type: "file", include: ["/var/log/*.log"] } };
const sinks = { out: { type: "file", inputs: ["app"], path: "/data/out" } };

/** What the loader says too: title -> a configuration and whether it is one. */
const CONFIGS: readonly { readonly says: boolean; readonly about: string; readonly config: object }[] = [
  { says: true, about: "the least", config: { sources, sinks } },
  {
    says: true,
    about: "a variable for a number",
    config: { sources, sinks, shutdown: { sink_grace_ms: `\${GRACE}` } },
  },
  {
    says: true,
    about: "sizes of channels",
    config: { sources, sinks, mpsc_channels: { components: { out: { buffer_size: 5, overflow: "drop_oldest" } } } },
  },
  {
    says: true,
    about: "every kind of stage",
    config: {
      sources: { ...sources, in: { type: "stdin" } },
      transforms: { parse: { type: "json", inputs: ["app", "in"] } },
      sinks: { out: { type: "tcp", inputs: ["parse"], address: "127.0.0.1:9", retry: { max_ms: 1000 } } },
    },
  },
  {
    says: false,
    about: "text where code must stand",
    config: { sources, transforms: { m: { type: "map", inputs: ["app"], function: "(event) => event" } }, sinks },
  },
  { says: false, about: "an unknown section", config: { sources, sinks, cheese: {} } },
  { says: false, about: "an unknown key", config: { sources, sinks, api: { adress: "127.0.0.1:1" } } },
  { says: false, about: "a wrong type", config: { sources, sinks, api: { enabled: 5 } } },
  { says: false, about: "a text that is no variable", config: { sources, sinks, shutdown: { sink_grace_ms: "long" } } },
  {
    says: false,
    about: "a capacity of nothing",
    config: { sources, sinks, mpsc_channels: { tap: { buffer_size: 0 } } },
  },
  { says: false, about: "an unknown policy", config: { sources, sinks, mpsc_channels: { tap: { overflow: "wait" } } } },
  { says: false, about: "an unknown stage", config: { sources: { app: { type: "cheese" } }, sinks } },
  { says: false, about: "an option of another stage", config: { sources, sinks: { out: { ...sinks.out, url: "x" } } } },
  { says: false, about: "a missing option", config: { sources, sinks: { out: { type: "file", inputs: ["app"] } } } },
];

/** Python's jsonschema, where it is installed: a validator that is not ours. */
const VALIDATE = `
import json, sys, jsonschema
schema, configs = json.load(sys.stdin)
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
print(json.dumps([validator.is_valid(config) for config in configs]))
`;

const hasValidator = spawnSync("python3", ["-c", "import jsonschema"]).status === 0;

describe("configJsonSchema", () => {
  it("has a table for every section, closed to unknown keys, with defaults and descriptions", () => {
    expect(schema).toMatchObject({ type: "object", additionalProperties: false });
    for (const section of ["api", "shutdown", "checkpoint", "mpsc_channels", "sources", "transforms", "sinks"])
      expect(schema.properties, section).toHaveProperty(section);
    expect(at("api")).toMatchObject({ type: "object", additionalProperties: false });
    expect(at("api", "address")).toMatchObject({ default: "127.0.0.1:7717", description: expect.any(String) });
    expect(at("checkpoint", "commit_interval_ms")).toMatchObject({ default: 100 });
    expect(at("mpsc_channels", "shared", "event_publisher", "event_queue_buffer_size")).toMatchObject({
      default: 5000,
    });
  });

  it("has every built-in stage with its options", () => {
    for (const [section, definitions] of Object.entries(builtInStages)) {
      for (const { type } of definitions) expect(stage(section, type), type).toBeDefined();
    }
    expect(stage("sinks", "file").required).toEqual(expect.arrayContaining(["type", "inputs", "path"]));
    expect(stage("sources", "file").required).not.toContain("inputs");
  });

  it("asks for nothing that has a default, and marks secrets", () => {
    expect(schema.required).toBeUndefined();
    expect(at("api").required).toBeUndefined();
    expect(at("api", "token").writeOnly).toBe(true);
  });

  it.runIf(hasValidator)(
    "is a schema to a validator, which says of each configuration what the loader says",
    async () => {
      const { stdout, stderr } = spawnSync("python3", ["-W", "ignore", "-c", VALIDATE], {
        input: JSON.stringify([schema, CONFIGS.map(({ config }) => config)]),
        encoding: "utf8",
      });
      expect(stderr).toBe("");
      const verdicts = JSON.parse(stdout) as boolean[];
      expect(CONFIGS.map(({ about }, index) => [about, verdicts[index]])).toEqual(
        CONFIGS.map(({ about, says }) => [about, says]),
      );
    },
  );

  it.each(CONFIGS)("agrees with the loader: $about", async ({ config, says }) => {
    const loading = loadPlan({
      stages: builtInStages,
      env: { GRACE: "5" },
      cwd: "/nowhere",
      sets: Object.entries(config).map(([section, value]) => `${section}=${toml(value)}`),
      needs: "nothing",
    });
    if (says) await loading;
    else await expect(loading).rejects.toMatchObject({ code: "TR_CONFIG_INVALID" });
  });
});

/** A value as TOML in one line. */
function toml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toml).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{ ${Object.entries(value)
    .map(([key, field]) => `${key} = ${toml(field)}`)
    .join(", ")} }`;
}
