import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { EventFields } from "../record/index.ts";
import { compileCondition } from "./condition.ts";

function matches(condition: string, event: EventFields): boolean {
  const compiled = compileCondition(condition);
  if (compiled.mistake !== undefined) throw new Error(compiled.mistake);
  return compiled.matches(event);
}

function mistake(condition: string): string | undefined {
  return compileCondition(condition).mistake;
}

const event = {
  level: "error",
  status: 503,
  ok: true,
  nothing: null,
  http: { method: "GET", "x-id": "a b", deep: { n: -1.5 } },
  tags: ["a", { b: "c" }],
  "a.b": "flat",
};

describe("compileCondition", () => {
  it.each([
    ["level == 'error' and status >= 500", true],
    ['level == "error" and status >= 504', false],
    ["level == 'warn' or status == 503", true],
    ["not level == 'warn'", true],
    ["not (level == 'error' or ok)", false],
    ["level == 'warn' and ok or status > 1", true],
    ["status == '503'", false],
    ["status != '503'", true],
    ["ok", true],
    ["not ok", false],
    ["ok == true", true],
    ["level", false],
    ["nothing == null", true],
    ["exists(nothing)", true],
    ["exists(missing)", false],
    ["exists(http.deep.n) and http.deep.n == -1.5", true],
    ["http['x-id'] == 'a b'", true],
    ["http.x-id == 'a b'", true],
    ["['a.b'] == 'flat'", true],
    ["exists(['a.b'])", true],
    ["a.b == 'flat'", false],
    ["tags[0] == 'a' and tags[1].b == 'c'", true],
    ["exists(tags[2])", false],
    ["exists(tags.length)", false],
    ["exists(level.length)", false],
    ["exists(constructor) or exists(http.toString) or exists(__proto__)", false],
    ["level =~ '^err'", true],
    ["level =~ /^ERR/i", true],
    ["level =~ /^ERR/", false],
    ["http['x-id'] =~ '^\\w\\s\\w$'", true],
    ["http['x-id'] =~ /[/ ]b/", true],
    ["status =~ '503'", false],
    ["'a' < 'b'", true],
    ["status < 'b'", false],
    ["'503' == level or 503 == status", true],
    ["(status) == (503)", true],
    ["1e3 == 1000 and 'it\\'s \\u0041' == 'it\\'s A'", true],
    ["tags == tags", false],
    ["http != http", true],
  ])("%s is %s", (condition, expected) => {
    expect(matches(condition, event)).toBe(expected);
  });

  it.each(["==", "<", "<=", ">", ">="])("is false for a missing field with %s, on either side", (operator) => {
    expect(matches(`missing ${operator} 1`, event)).toBe(false);
    expect(matches(`1 ${operator} missing`, event)).toBe(false);
    expect(matches(`missing ${operator} missing`, event)).toBe(false);
    expect(matches(`missing ${operator} null`, event)).toBe(false);
  });

  it("is true for a missing field with !=", () => {
    expect(matches("missing != 1", event)).toBe(true);
    expect(matches("missing != null", event)).toBe(true);
    expect(matches("missing =~ 'x'", event)).toBe(false);
  });

  it("gives the same answer again for the same event", () => {
    const compiled = compileCondition("level =~ /r/");
    if (compiled.mistake !== undefined) throw new Error(compiled.mistake);
    expect([1, 2, 3].map(() => compiled.matches(event))).toEqual([true, true, true]);
  });

  it("runs ten thousand alternatives without exhausting the stack", () => {
    const condition = Array.from({ length: 10_000 }, (_, index) => `status == ${index + 1000}`).join(" or ");
    expect(matches(`${condition} or ok`, event)).toBe(true);
  });
});

describe("a mistake in a condition", () => {
  it("is shown with its column and a caret", () => {
    expect(mistake("level ==")).toBe("column 9: expected a value after ==, found the end\n  level ==\n          ^");
  });

  it("is shown with its line where there are several", () => {
    expect(mistake("ok and\n\tstatus = 5")).toBe(
      "line 2, column 9: = is written == here\n  \tstatus = 5\n  \t       ^",
    );
  });

  it.each([
    ["", "column 1: the condition is empty"],
    ["a && b", "column 3: && is written and here"],
    ["a || b", "column 3: || is written or here"],
    ["!a", "column 1: ! is written not here"],
    ["a AND b", "column 3: AND is written and here"],
    ["a == 'x", "column 6: this string has no closing '"],
    ["a == 'x\\'", "column 6: this string has no closing '"],
    ["a == '\\q'", "column 7: \\q is no escape"],
    ["a =~ '('", "column 6: no valid regular expression"],
    ["a =~ /x/g", "column 6: the flags g and y have no meaning here"],
    ["a =~ /x", "column 6: this regular expression has no closing /"],
    ["a =~ b", "column 6: expected a regular expression"],
    ["/x/ == a", "column 1: a regular expression stands only behind =~"],
    ["1 < a < 3", "column 7: comparisons do not chain"],
    ["(a == 1) == true", "column 1: only fields and values can be compared"],
    ["(a == 1", "column 8: expected ) to close the ( of column 1, found the end"],
    ["a == 1)", "column 7: this ) closes nothing"],
    ["'text'", 'column 1: "text" alone is no condition'],
    ["a == 1 b", "column 8: expected and, or, or the end, found b"],
    ["exists a", "column 8: expected ( after exists, found a"],
    ["exists('a')", "column 8: expected a field, found 'a'"],
    ["a. == 1", "column 4: expected a field name after the dot, found =="],
    ["a[b] == 1", "column 3: expected a field name in quotes, found b"],
    ["and", "column 1: expected a field, a value, not, exists(...) or (, found and"],
    ["a == 😀", 'column 6: unexpected "😀"'],
  ])("%j says %s", (condition, expected) => {
    expect(mistake(condition)?.split("\n")[0]).toContain(expected);
  });

  it("is found in a condition nested without end", () => {
    expect(mistake("(".repeat(100_000))).toContain("nested too deeply");
    expect(mistake("not ".repeat(100_000))).toContain("nested too deeply");
  });

  it("never escapes as an exception, whatever the text", () => {
    const pieces = fc.constantFrom(
      "a",
      ".",
      "(",
      ")",
      "[",
      "]",
      "'x'",
      "1",
      "and",
      "or",
      "not",
      "exists",
      "==",
      "=~",
      "/x/",
      "\\",
      "=",
      " ",
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(pieces).map((all) => all.join(" ")),
        ),
        (text) => {
          const compiled = compileCondition(text);
          if (compiled.mistake !== undefined) expect(compiled.mistake).toMatch(/column \d+: /);
          else expect(typeof compiled.matches({})).toBe("boolean");
        },
      ),
    );
  });
});

// A second, slower reading of the same language: a tree made by the generator, evaluated straight from the documentation.
type Tree =
  | { readonly op: "and" | "or"; readonly left: Tree; readonly right: Tree }
  | { readonly op: "not"; readonly of: Tree }
  | { readonly op: "exists"; readonly field: readonly string[] }
  | { readonly op: "=="; readonly field: readonly string[]; readonly value: Scalar; readonly sign: string };
type Scalar = string | number | boolean | null;

const fieldNames = fc.constantFrom("a", "b", "c");
const paths = fc.array(fieldNames, { minLength: 1, maxLength: 2 });
const scalars: fc.Arbitrary<Scalar> = fc.oneof(
  fc.constantFrom<Scalar>("", "x", "it's", 'a"b\\', "ü\n", 0, 1, -2.5, true, false, null),
  fc.integer(),
);
const trees = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.record({ op: fc.constant("exists" as const), field: paths }),
    fc.record({
      op: fc.constant("==" as const),
      field: paths,
      value: scalars,
      sign: fc.constantFrom("==", "!=", "<", "<=", ">", ">="),
    }),
    fc.record({ op: fc.constant("not" as const), of: tie("tree") }),
    fc.record({ op: fc.constantFrom("and" as const, "or" as const), left: tie("tree"), right: tie("tree") }),
  ),
})).tree;
const events = fc.dictionary(fieldNames, fc.oneof(scalars, fc.dictionary(fieldNames, scalars, { maxKeys: 3 })), {
  maxKeys: 3,
});

/** With only the parentheses that precedence demands. */
function written(tree: Tree, outer = 0): string {
  switch (tree.op) {
    case "or":
      return around(outer > 0, `${written(tree.left, 0)} or ${written(tree.right, 1)}`);
    case "and":
      return around(outer > 1, `${written(tree.left, 1)} and ${written(tree.right, 2)}`);
    case "not":
      return `not ${written(tree.of, 2)}`;
    case "exists":
      return `exists(${tree.field.join(".")})`;
    case "==":
      return `${tree.field.join(".")} ${tree.sign} ${JSON.stringify(tree.value)}`;
  }
}

const around = (needed: boolean, text: string) => (needed ? `(${text})` : text);

function naive(tree: Tree, of: EventFields): boolean {
  switch (tree.op) {
    case "and":
      return naive(tree.left, of) && naive(tree.right, of);
    case "or":
      return naive(tree.left, of) || naive(tree.right, of);
    case "not":
      return !naive(tree.of, of);
    case "exists":
      return lookedUp(tree.field, of) !== undefined;
    case "==":
      return naiveCompare(lookedUp(tree.field, of), tree.sign, tree.value);
  }
}

function lookedUp(field: readonly string[], of: EventFields): unknown {
  let value: unknown = of;
  for (const name of field) value = Object.entries(value ?? {}).find(([key]) => key === name)?.[1];
  return value;
}

function naiveCompare(value: unknown, sign: string, other: Scalar): boolean {
  if (sign === "==") return value === other;
  if (sign === "!=") return value !== other;
  if (typeof value !== typeof other || !(typeof value === "number" || typeof value === "string")) return false;
  if (sign === "<") return value < other!;
  if (sign === "<=") return value <= other!;
  return sign === ">" ? value > other! : value >= other!;
}

describe("compileCondition, against a naive evaluator", () => {
  it("agrees on every condition and event", () => {
    fc.assert(
      fc.property(trees, events, (tree, of) => {
        expect(matches(written(tree), of)).toBe(naive(tree, of));
      }),
      { numRuns: 1000 },
    );
  });
});
