import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openApi } from "../../src/api/openapi.ts";
import { configJsonSchema } from "../../src/config/json-schema.ts";
import { ERROR_CODES } from "../../src/errors.ts";
import { builtInStages } from "../../src/stages.ts";
import { EVENTS } from "../../src/telemetry/events.ts";
import { METRICS } from "../../src/telemetry/metrics.ts";

const pages = (await import(new URL("../../scripts/reference-pages.mjs", import.meta.url).href)) as {
  readonly [name: string]: (facts: object) => string;
};

describe("reference pages", () => {
  it.each([
    { page: "errors", facts: ERROR_CODES },
    { page: "events", facts: EVENTS },
    { page: "metrics", facts: METRICS },
    { page: "api", facts: openApi("0") },
    { page: "configuration", facts: configJsonSchema(builtInStages) },
  ])("say what the code says: $page (else: npm run docs)", ({ page, facts }) => {
    const written = readFileSync(new URL(`../../docs/reference/${page}.md`, import.meta.url), "utf8");
    expect(written).toBe(pages[`${page}Page`]!(facts));
  });
});
