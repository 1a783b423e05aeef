import type { ModuleSyntax, SyntaxNode } from "../runtime/load-module.ts";
import type { KeyPath } from "./tree.ts";

/**
 * The lines of the keys of a configuration that is code, as far as they are certain: of an object that is written out in
 * the default export, or stands there by a name that is used nowhere else. What was spread, computed, imported or made by
 * a function has no line; a wrong one would be worse than none.
 */
export class KeyLines {
  readonly #lines = new Map<string, number>();

  /** 1-based; undefined where it is not certain. */
  lineOf(path: KeyPath): number | undefined {
    return this.#lines.get(JSON.stringify(path));
  }

  /** Reads them off a module. */
  note(module: ModuleSyntax): void {
    const exported = module.body.find(({ type }) => type === "ExportDefaultDeclaration");
    const value = exported?.["declaration"] as SyntaxNode | undefined;
    if (value !== undefined) this.#noteValue(value, [], module);
  }

  #noteValue(value: SyntaxNode, path: KeyPath, module: ModuleSyntax): void {
    switch (value.type) {
      case "ObjectExpression":
        this.#noteKeys(value["properties"] as readonly SyntaxNode[], path, module);
        break;
      case "ArrayExpression":
        this.#noteItems(value["elements"] as readonly (SyntaxNode | null)[], path, module);
        break;
      case "Identifier": {
        const named = module.valueOf(value["name"] as string);
        if (named !== undefined) this.#noteValue(named, path, module);
        break;
      }
      case "CallExpression": {
        // It gives back what it was given.
        const callee = value["callee"] as SyntaxNode;
        const [config] = value["arguments"] as readonly SyntaxNode[];
        if (callee["name"] === "defineConfig" && config !== undefined) this.#noteValue(config, path, module);
        break;
      }
      case "TSAsExpression":
      case "TSSatisfiesExpression":
      case "ParenthesizedExpression":
        this.#noteValue(value["expression"] as SyntaxNode, path, module);
        break;
    }
  }

  #noteKeys(properties: readonly SyntaxNode[], path: KeyPath, module: ModuleSyntax): void {
    // Whatever stands before a spread, or a key that is computed, may be replaced by it.
    const firstCertain = properties.findLastIndex((property) => keyOf(property) === undefined) + 1;
    for (const property of properties.slice(firstCertain)) {
      const here = [...path, keyOf(property)!];
      this.#noteLine(property, here);
      if (property.type === "ObjectProperty") this.#noteValue(property["value"] as SyntaxNode, here, module);
    }
  }

  #noteItems(elements: readonly (SyntaxNode | null)[], path: KeyPath, module: ModuleSyntax): void {
    for (const [at, element] of elements.entries()) {
      // Behind a spread nobody knows the number of an item.
      if (element?.type === "SpreadElement") return;
      if (element === null) continue;
      this.#noteLine(element, [...path, at]);
      this.#noteValue(element, [...path, at], module);
    }
  }

  #noteLine({ loc }: SyntaxNode, path: KeyPath): void {
    if (loc) this.#lines.set(JSON.stringify(path), loc.start.line);
  }
}

function keyOf(property: SyntaxNode): string | undefined {
  const key = property["key"] as SyntaxNode | undefined;
  if (key === undefined) return undefined;
  if (key.type === "StringLiteral" || key.type === "NumericLiteral") return String(key["value"]);
  return key.type === "Identifier" && property["computed"] !== true ? (key["name"] as string) : undefined;
}
