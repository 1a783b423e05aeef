import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { SeededRandom } from "../testing/seeded-random.ts";
import { expandBraces, MAX_ALTERNATIVES } from "./braces.ts";
import { PatternError } from "./pattern-error.ts";

const KNOWN = [
  "{1..5}",
  "{05..1}",
  "{a..e}",
  "{e..a..2}",
  "{1..10..3}",
  "{-3..03}",
  "{+1..3}",
  "{001..3..-1}",
  "{-01..1}",
  "{0..0}",
  "{a..3}",
  "{a,b{1,2}}c",
  "{a}",
  "{}",
  "{a,b",
  "{a},b}",
  "a{,}b",
  "{/a,/b}/x",
  "{a\\,b,c}",
  "\\{a,b}",
  "x{1..3}{a,b}",
];
const ATOMS = ["{", "{", "}", "}", ",", ",", "a", "b", "..", "1", "3", "\\", "0", "-", "/"];

function chance(): string[] {
  const random = new SeededRandom(11);
  const pick = (count: number) => Math.floor(random.next() * count);
  return Array.from({ length: 3000 }, () => {
    const text = Array.from({ length: 1 + pick(14) }, () => ATOMS[pick(ATOMS.length)]).join("");
    return text.endsWith("\\") ? `${text}a` : text;
  });
}

describe("expandBraces", () => {
  it("makes of known words and of 3,000 by chance what bash makes of them", () => {
    const texts = [...KNOWN, ...chance()];
    const script = ["set -f", ...texts.map((text) => `printf '%s\\t' ${text}; echo`)].join("\n");
    const byBash = spawnSync("bash", { input: script, encoding: "utf8" }).stdout.split("\n");
    const different = texts.flatMap((text, index) => {
      // bash also removes backslashes and empty words; both are not the expansion's business.
      const words = expandBraces(text).filter((word) => word !== "");
      const mine = words.map((word) => `${word.replace(/\\(.)/g, "$1")}\t`).join("") || "\t";
      return mine === byBash[index] ? [] : [{ text, mine, bash: byBash[index] }];
    });
    expect(different).toEqual([]);
  });

  it("refuses words without end instead of filling the memory with them", () => {
    expect(() => expandBraces("{1..99999999}")).toThrow(`more than ${MAX_ALTERNATIVES}`);
    expect(() => expandBraces("{1..99}{1..99}{1..99}")).toThrow(PatternError);
  });
});
