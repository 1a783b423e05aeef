import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sampleStages } from "../../test/config/sample-stages.ts";
import { ConfigError, describeMistake } from "../errors.ts";
import { loadPlan } from "./load.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-key-lines-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const load = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return loadPlan({ stages: sampleStages, env: {}, cwd: folder, configs: [name], needs: "nothing" });
};

async function mistakesOf(name: string, text: string): Promise<string[]> {
  const thrown = await load(name, text).then(
    () => new Error("nothing is wrong with it"),
    (error: unknown) => error,
  );
  if (!(thrown instanceof ConfigError)) throw thrown;
  return thrown.mistakes.map(describeMistake);
}

describe("a mistake in a configuration that is code", () => {
  it("is told with its line", async () => {
    const text = `const defineConfig = <T,>(config: T): T => config;
enum Limit { Bytes = 5 }

export default defineConfig({
  sources: {
    app: {
      type: "file",
      inclde: 5,
      include: ["/a",
        7 as unknown as string],
      "max_line_bytes": Limit.Bytes - 6,
    },
  },
  // @ts-expect-error the compiler sees it too
  sinks: { ["out"]: { type: "file", inputs: ["app"],
    encoding: "xml" } },
});
`;
    expect(await mistakesOf("tailrace.config.ts", text)).toEqual([
      "tailrace.config.ts:8: sources.app.inclde: unknown key; did you mean `include`?",
      "tailrace.config.ts:10: sources.app.include[1]: is 7; give a string",
      "tailrace.config.ts:11: sources.app.max_line_bytes: is -1; give a whole number from 1",
      "tailrace.config.ts:15: sinks.out.path: is missing; give a string that is not empty",
      'tailrace.config.ts:16: sinks.out.encoding: is "xml"; give one of json, text, raw',
    ]);
  });

  it.each([
    ["a plain object", "export default {\n api: { adress: 1 } };", 2],
    ["a typed one", "export default {\n api: { adress: 1 } } as const satisfies object;", 2],
    ["an object by name", "const config: object = {\n api: { adress: 1 } };\nexport default config;", 2],
    ["a part by name", "const api = {\n adress: 1 };\nexport default {\n\n api };", 2],
    ["a key below a spread", "const b = {};\nexport default { ...b,\n api: { adress: 1 } };", 3],
    ["a key above a spread", "const b = { api: { adress: 1 } };\nexport default { api: { adress: 2 }, ...b };"],
    ["a computed key", "const k = 'api';\nexport default { api: { adress: 2 }, [k]: { adress: 1 } };"],
    ["an object that is used twice", "const c: any = { api: { adress: 2 } };\nc.api.adress = 1;\nexport default c;"],
    ["an object that is replaced", "let c = { api: { adress: 2 } };\nc = { api: { adress: 1 } };\nexport default c;"],
    ["what a function makes", "const made = (c: object) => c;\nexport default made({ api: { adress: 1 } });"],
  ])("has a line where that is certain, and none where it is not: %s", async (_, text, line?: number) => {
    const where = line === undefined ? "c.ts" : `c.ts:${line}`;
    expect(await mistakesOf("c.ts", text)).toEqual([`${where}: api.adress: unknown key; did you mean \`address\`?`]);
  });

  it("has no line of another file", async () => {
    writeFileSync(join(folder, "part.ts"), "export default {\n api: { adress: 1 } };");
    const text = 'import part from "./part.ts";\nexport default part;';
    for (const name of ["c.ts", "c.js"])
      expect(await mistakesOf(name, text)).toEqual([`${name}: api.adress: unknown key; did you mean \`address\`?`]);
    const common = "module.exports = { api: { adress: 1 } };";
    expect(await mistakesOf("c.cjs", common)).toEqual(["c.cjs: api.adress: unknown key; did you mean `address`?"]);
  });
});
