/** Rows as columns for people: the first row is the heading; numbers are right-aligned. */
export function table(heading: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const cells = rows.map((row) => row.map(String));
  const widths = heading.map((name, column) => Math.max(name.length, ...cells.map((row) => row[column]!.length)));
  const isNumber = heading.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === "number"));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => (isNumber[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join("  ")
      .trimEnd();
  return `${[line(heading), ...cells.map(line)].join("\n")}\n`;
}
