type Row = readonly (string | number)[];

/**
 * Makes lines of rows, for people: columns as wide as the heading and these rows want them, numbers right-aligned. A cell of
 * another row that is longer moves what is behind it.
 */
export function columns(heading: readonly string[], rows: readonly Row[]): (row: Row) => string {
  const widths = heading.map((name) => name.length);
  for (const row of rows) for (const [column, cell] of row.entries()) widths[column] = widest(widths[column], cell);
  const isNumber = heading.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === "number"));
  const padded = (cell: string | number, column: number) =>
    isNumber[column] ? String(cell).padStart(widths[column]!) : String(cell).padEnd(widths[column]!);
  return (row) => `${row.map(padded).join("  ").trimEnd()}\n`;
}

/** All rows, below their heading. */
export function table(heading: readonly string[], rows: readonly Row[]): string {
  const line = columns(heading, rows);
  return line(heading) + rows.map(line).join("");
}

const widest = (width = 0, cell: string | number) => Math.max(width, String(cell).length);
