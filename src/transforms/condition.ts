import type { EventFields } from "../record/data-record.ts";
import type { ComparisonOperator, Condition, FieldPath, Operand } from "./condition-parser.ts";
import { parseCondition } from "./condition-parser.ts";

/** Whether an event meets a condition. Never throws, changes nothing. */
export type Matches = (event: EventFields) => boolean;

/**
 * Compiles a condition once into closures, or says what is wrong with it (place, reason, caret).
 *
 * | condition | meaning |
 * |---|---|
 * | `a.b['c d'].e[0]` | a field in a field, an index of a list; only own fields count |
 * | `a == 1`, `a != 1` | same type and same value; nothing is converted, `"200" == 200` is false |
 * | `a < 1`, `<=`, `>`, `>=` | two numbers, or two strings by UTF-16 code units; anything else is false |
 * | `a =~ '^x'`, `a =~ /^x/i` | `a` is a string that the (JavaScript) regular expression finds something in |
 * | `exists(a)` | the field is there, also when it is null |
 * | `a` | the field is `true` itself |
 *
 * A missing field makes every comparison false except `!=`, which it makes true: `not a == 1` and `a != 1` are the same.
 * Lists and objects equal nothing. A regular expression with nested repetitions may take exponential time on a line made
 * for it; nothing here can stop that, so prefer anchors and simple classes for lines that strangers write.
 */
export function compileCondition(
  text: string,
): { readonly matches: Matches; readonly mistake?: undefined } | { readonly mistake: string } {
  const parsed = parseCondition(text);
  return parsed.mistake === undefined ? { matches: compile(parsed.condition) } : parsed;
}

function compile(condition: Condition): Matches {
  switch (condition.kind) {
    case "or": {
      const parts = chain(condition, "or").map(compile);
      return (event) => parts.some((matches) => matches(event));
    }
    case "and": {
      const parts = chain(condition, "and").map(compile);
      return (event) => parts.every((matches) => matches(event));
    }
    case "not": {
      const of = compile(condition.of);
      return (event) => !of(event);
    }
    case "exists": {
      const field = fieldOf(condition.path);
      return (event) => field(event) !== undefined;
    }
    case "truth": {
      const value = operandOf(condition.of);
      return (event) => value(event) === true;
    }
    case "match": {
      const value = operandOf(condition.left);
      const { regex } = condition;
      return (event) => {
        const text = value(event);
        return typeof text === "string" && regex.test(text);
      };
    }
    case "compare": {
      const left = operandOf(condition.left);
      const right = operandOf(condition.right);
      const holds = COMPARISONS[condition.operator];
      return (event) => holds(left(event), right(event));
    }
  }
}

/** The parts of `a and b and c` as one list: a thousand of them must not become a thousand nested calls. */
function chain(condition: Condition, kind: "or" | "and"): Condition[] {
  const parts: Condition[] = [];
  let rest = condition;
  while (rest.kind === kind) {
    parts.push(rest.right);
    rest = rest.left;
  }
  parts.push(rest);
  return parts.reverse();
}

type Value = (event: EventFields) => unknown;

function operandOf(operand: Operand): Value {
  if (operand.kind === "field") return fieldOf(operand.path);
  const { value } = operand;
  return () => value;
}

function fieldOf(path: FieldPath): Value {
  const [first] = path;
  if (path.length === 1) return (event) => own(event, first!);
  return (event) => {
    let value: unknown = event;
    for (const step of path) {
      value = own(value, step);
      if (value === undefined) return undefined;
    }
    return value;
  };
}

/** Own fields of objects and items of lists; never `length`, `constructor` and what else hangs on a prototype. */
function own(holder: unknown, step: string | number): unknown {
  if (typeof holder !== "object" || holder === null) return undefined;
  if (Array.isArray(holder)) return typeof step === "number" ? holder[step] : undefined;
  return Object.hasOwn(holder, step) ? (holder as EventFields)[step] : undefined;
}

const COMPARISONS: { readonly [operator in ComparisonOperator]: (left: unknown, right: unknown) => boolean } = {
  "==": isEqual,
  "!=": (left, right) => !isEqual(left, right),
  "<": (left, right) => isOrdered(left, right) && left! < right!,
  "<=": (left, right) => isOrdered(left, right) && left! <= right!,
  ">": (left, right) => isOrdered(left, right) && left! > right!,
  ">=": (left, right) => isOrdered(left, right) && left! >= right!,
};

function isEqual(left: unknown, right: unknown): boolean {
  return left === right && left !== undefined && (typeof left !== "object" || left === null);
}

function isOrdered(left: unknown, right: unknown): boolean {
  return (
    (typeof left === "number" && typeof right === "number") || (typeof left === "string" && typeof right === "string")
  );
}
