import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { loadModule } from "./load-module.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-load-module-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function mistakeOf(path: string) {
  const error = await loadModule(path).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).mistakes[0]!;
}

describe("loadModule", () => {
  it("loads TypeScript with types, enums, relative .ts imports and top-level await", async () => {
    file("part.ts", "export interface Part { readonly n: number }\nexport const one: Part = { n: 1 };");
    const path = file(
      "whole.ts",
      `import { one, type Part } from "./part.ts";
       enum Colour { Red = 5 }
       const late: number = await Promise.resolve(7);
       export const named: Part = { n: one.n + Colour.Red } satisfies Part;
       export default (x: number): number => x + named.n + late;`,
    );
    const exports = await loadModule(path);
    expect(exports["named"]).toEqual({ n: 6 });
    expect((exports["default"] as (x: number) => number)(1)).toBe(14);
  });

  it("loads plain JavaScript of both module systems", async () => {
    expect((await loadModule(file("a.mjs", "export default 1;")))["default"]).toBe(1);
    expect((await loadModule(file("b.cjs", "module.exports = 2;")))["default"]).toBe(2);
    expect((await loadModule(file("c.js", "export default 3;")))["default"]).toBe(3);
  });

  it("gives two files that import a third the same instance of it, also in a circle", async () => {
    file("shared.ts", "export const shared = { count: 0 };");
    file("left.ts", 'import { shared } from "./shared.ts"; import "./circle.ts"; export const left = shared;');
    file("right.ts", 'import { shared } from "./shared.ts"; export const right = shared;');
    const path = file(
      "circle.ts",
      'import { left } from "./left.ts"; import { right } from "./right.ts"; export default () => left === right;',
    );
    expect(((await loadModule(path))["default"] as () => boolean)()).toBe(true);
  });

  it("reads edited files anew, those they import too", async () => {
    file("edited-part.ts", "export const value = 1;");
    const path = file("edited.ts", 'import { value } from "./edited-part.ts"; export default value;');
    expect((await loadModule(path))["default"]).toBe(1);
    file("edited-part.ts", "export const value = 2;");
    expect((await loadModule(path))["default"]).toBe(2);
  });

  it("resolves our own package by name, wherever the file lies", async () => {
    const path = file("ours.ts", 'import { channel } from "tailrace/channel"; export default channel;');
    expect(typeof (await loadModule(path))["default"]).toBe("function");
  });

  it("leaves no files behind", async () => {
    const before = readdirSync(folder);
    await loadModule(join(folder, "whole.ts"));
    expect(readdirSync(folder)).toEqual(before);
  });

  it("says which file is not there", async () => {
    const path = join(folder, "missing.ts");
    expect(await mistakeOf(path)).toEqual({ file: path, message: "there is no such file" });
  });

  it("says where code is no code", async () => {
    const path = file("broken.ts", "const a = 1;\nexport default (x: => 3;\n");
    expect(await mistakeOf(path)).toMatchObject({
      file: path,
      line: 2,
      message: expect.stringMatching(/^it could not be loaded: .*Unexpected token/),
    });
  });

  it("says where code threw while it was loaded", async () => {
    const path = file("throws.ts", "const a: number = 1;\n\nthrow new Error('no ' + a);\n");
    expect(await mistakeOf(path)).toEqual({ file: path, line: 3, message: "it could not be loaded: no 1" });
  });

  it("says which import is missing", async () => {
    const path = file("imports.ts", 'import "./not-there.ts";\n');
    const { message } = await mistakeOf(path);
    expect(message).toMatch(/^it could not be loaded: Cannot find module '.*not-there.ts'/);
  });
});
