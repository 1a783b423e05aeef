import { z } from "zod";
import type { StageDefinition } from "../stage/index.ts";
import { COMPONENT_INPUT_SCHEMA } from "./channel-sections.ts";
import type { StageList } from "./components.ts";
import { COMMON_KEYS, COMPONENT_SECTIONS, type ComponentSection, generalSchema } from "./schema.ts";

type JsonObject = { [key: string]: unknown };

/** Draft 7 is what editors of TOML understand. */
const TARGET = "draft-7";

/** A string that is one whole substitution takes its key's type, so it may stand where a number is wanted. */
const SUBSTITUTION = { type: "string", pattern: "^\\$\\{[^}]+\\}$" };

/** The whole configuration as JSON Schema: keys, types, defaults and descriptions, of every stage in the list too. */
export function configJsonSchema(stages: StageList): object {
  const general = toJson(generalSchema([]));
  const properties = general["properties"] as JsonObject;
  const channels = properties["mpsc_channels"] as JsonObject;
  const channelKeys = channels["properties"] as JsonObject;
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Configuration of Tailrace",
    type: "object",
    additionalProperties: false,
    properties: {
      ...properties,
      mpsc_channels: {
        ...channels,
        properties: {
          ...channelKeys,
          components: {
            type: "object",
            description: "Each component's own input, by its name.",
            additionalProperties: toJson(COMPONENT_INPUT_SCHEMA),
          },
        },
      },
      ...Object.fromEntries(COMPONENT_SECTIONS.map((section) => [section, sectionSchema(section, stages[section])])),
    },
  };
}

function sectionSchema(section: ComponentSection, definitions: readonly StageDefinition[]): JsonObject {
  const common = toJson(COMMON_KEYS[section]);
  return {
    type: "object",
    description: `[${section}.NAME]: one table for each.`,
    additionalProperties: { oneOf: definitions.map((definition) => componentSchema(definition, common)) },
  };
}

function componentSchema(definition: StageDefinition, common: JsonObject): JsonObject {
  const own = toJson(definition.options);
  const type = { const: definition.type, description: definition.summary };
  const inputs = definition.kind === "source" ? [] : ["inputs"];
  const isPlain = own["type"] === "object" && typeof own["properties"] === "object";
  return {
    title: definition.type,
    description: definition.summary,
    type: "object",
    required: ["type", ...inputs, ...((own["required"] as string[] | undefined) ?? [])],
    properties: { ...(common["properties"] as JsonObject), ...(own["properties"] as JsonObject | undefined), type },
    // Of options that are no plain table the keys are not known here.
    ...(isPlain ? { additionalProperties: own["additionalProperties"] ?? false } : {}),
  };
}

function toJson(schema: z.ZodType): JsonObject {
  const { $schema: _, ...json } = z.toJSONSchema(schema, {
    target: TARGET,
    // What a person writes: a key with a default may be left out.
    io: "input",
    unrepresentable: "any",
    override({ zodSchema, jsonSchema }) {
      // Code has no way into a TOML.
      if (zodSchema._zod.def.type === "custom") jsonSchema.not = {};
      adjust(jsonSchema as JsonObject);
    },
  }) as JsonObject;
  return json;
}

function adjust(json: JsonObject): void {
  if (json["secret"] === true) {
    delete json["secret"];
    json["writeOnly"] = true;
  }
  const isScalar = ["integer", "number", "boolean"].includes(json["type"] as string) || json["enum"] !== undefined;
  if (!isScalar) return;
  const { description, default: byDefault, ...rest } = json;
  for (const key of Object.keys(rest)) delete json[key];
  json["anyOf"] = [rest, SUBSTITUTION];
}
