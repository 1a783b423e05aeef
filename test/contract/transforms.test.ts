import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, it } from "vitest";
import { systemClock } from "../../src/runtime/clock.ts";
import type { StageContext, TransformDefinition } from "../../src/stage/index.ts";
import { transformContract } from "../../src/testing/transform-contract.ts";
import { filter } from "../../src/transforms/filter.ts";
import { json } from "../../src/transforms/json.ts";
import { map } from "../../src/transforms/map.ts";

const folder = mkdtempSync(join(tmpdir(), "tailrace-transforms-"));
const module = join(folder, "shape.ts");
writeFileSync(
  module,
  `export default async (event: any) => {
     if (event.message === "bad") throw new Error("bad");
     if (event.message === "two") return [{ ...event, part: 1 }, { ...event, part: 2 }];
     if (event.message === "none") return undefined;
     event.seen = true;
     if (event.nested) event.nested.list.push(1);
     return event;
   };`,
);
afterAll(() => rmSync(folder, { recursive: true }));

const context = { clock: systemClock } as StageContext;
const transforms: readonly { definition: TransformDefinition; options: object; samples: readonly string[] }[] = [
  { definition: json, options: {}, samples: ['{"a":1}', "no", "{}", "", '{"a":{"b":[null]}}', "[1]"] },
  {
    definition: filter,
    options: { condition: "message =~ 'a' or offset > 9" },
    samples: ["a", "b", "xa", "", "long line", "c"],
  },
  { definition: map, options: { module }, samples: ["one", "two", "none", "bad", "", "two"] },
];

for (const { definition, options, samples } of transforms) {
  describe(`${definition.type}, as a transform`, () => {
    for (const { title, run } of transformContract({ definition, options, samples, context })) it(title, run);
  });
}
