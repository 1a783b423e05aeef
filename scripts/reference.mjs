// Prints the generated pages of docs/reference from the code: `npm run docs`.
import { writeFileSync } from "node:fs";
import { openApi } from "../dist/api/openapi.js";
import { configJsonSchema } from "../dist/config/json-schema.js";
import { ERROR_CODES } from "../dist/errors.js";
import { builtInStages } from "../dist/stages.js";
import { EVENTS } from "../dist/telemetry/events.js";
import { METRICS } from "../dist/telemetry/metrics.js";
import { apiPage, configurationPage, errorsPage, eventsPage, metricsPage } from "./reference-pages.mjs";

const write = (name, text) => writeFileSync(new URL(`../docs/reference/${name}.md`, import.meta.url), text);

write("errors", errorsPage(ERROR_CODES));
write("events", eventsPage(EVENTS));
write("metrics", metricsPage(METRICS));
write("api", apiPage(openApi("0")));
write("configuration", configurationPage(configJsonSchema(builtInStages)));
