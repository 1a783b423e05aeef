import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { exports, peerDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  exports: { [door: string]: { types?: string } | string };
  peerDependencies: { [name: string]: string };
};

/** The packages that a declaration and all that it imports name, each with the file that does. */
function packagesOf(declaration: string, seen = new Set<string>()): string[] {
  if (seen.has(declaration)) return [];
  seen.add(declaration);
  const text = readFileSync(declaration, "utf8");
  const named = [...text.matchAll(/(?:\bfrom\s|\bimport\(|\bimport\s)\s*"([^"]+)"/g)].map(([, path]) => path!);
  return named.flatMap((path) => {
    if (!path.startsWith(".")) return `${path} (${declaration.slice(root.length)})`;
    const next = resolve(dirname(declaration), path.replace(/\.[jt]s$/, ".d.ts"));
    return existsSync(next)
      ? packagesOf(next, seen)
      : `${path}, which is not there (${declaration.slice(root.length)})`;
  });
}

describe("the types of the package", () => {
  it("name no package that is installed only where it is used", () => {
    const doors = Object.values(exports).flatMap((door) => (typeof door === "string" ? [] : (door.types ?? [])));
    const named = doors.flatMap((door) => packagesOf(join(root, door)));
    expect(named.some((name) => name.startsWith("zod "))).toBe(true);
    const optional = Object.keys(peerDependencies);
    const wrong = named.filter((name) =>
      optional.some((peer) => name.startsWith(`${peer} `) || name.startsWith(`${peer}/`)),
    );
    expect([...wrong, ...named.filter((name) => name.startsWith("."))]).toEqual([]);
  });
});
