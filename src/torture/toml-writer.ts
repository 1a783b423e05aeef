/** Writes plain values as TOML: each top-level key a line, what is below it inline. Undefined values are left out. */
export function toToml(tree: { readonly [key: string]: unknown }): string {
  return entries(tree)
    .map(([key, value]) => `${keyText(key)} = ${valueText(value)}\n`)
    .join("");
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(valueText).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const inside = entries(value as { readonly [key: string]: unknown });
  return `{ ${inside.map(([key, each]) => `${keyText(key)} = ${valueText(each)}`).join(", ")} }`;
}

function entries(tree: { readonly [key: string]: unknown }): [string, unknown][] {
  return Object.entries(tree).filter(([, value]) => value !== undefined && value !== null);
}

function keyText(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : JSON.stringify(key);
}
