/** A name as SQL writes it. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** `schema.table`, or `table`, as SQL writes it. */
export function tableSql(name: string): string {
  return name.split(".").map(identifier).join(".");
}
