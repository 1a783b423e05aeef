import { dayNumber, type Rank } from "../family.ts";

/** What the parts of a date in a name were, by their letter in strftime(3): `{ Y: 2026, m: 1, d: 31 }`. */
export type DateParts = { readonly [letter in DateLetter]?: number };

export type DateLetter = "Y" | "m" | "d" | "H" | "M" | "S" | "V" | "s";

/** What logrotate knows of strftime(3), as patterns; in a `dateformat` everything else stands for itself. */
const PATTERNS: { readonly [letter in DateLetter]: string } = {
  Y: "\\d{4}",
  m: "\\d\\d",
  d: "\\d\\d",
  H: "\\d\\d",
  M: "\\d\\d",
  S: "\\d\\d",
  V: "\\d\\d",
  s: "\\d{10}",
};

export function isDateLetter(letter: string): letter is DateLetter {
  return Object.hasOwn(PATTERNS, letter);
}

/** The pattern of one part, as a source of a regular expression without groups. */
export function datePattern(letter: DateLetter): string {
  return PATTERNS[letter];
}

/** `-%Y%m%d` as a parser of the tags that logrotate makes of it; undefined for any other text. */
export function dateFormatParser(format: string): (tag: string) => Rank | undefined {
  const letters: DateLetter[] = [];
  const source = format.replace(/%([YmdHMSVs])|[^A-Za-z0-9]/g, (text, letter: string | undefined) => {
    if (letter === undefined || !isDateLetter(letter)) return `\\u{${text.codePointAt(0)!.toString(16)}}`;
    letters.push(letter);
    return `(${datePattern(letter)})`;
  });
  const whole = new RegExp(`^${source}$`, "su");
  return (tag) => {
    const match = whole.exec(tag);
    if (match === null) return undefined;
    const parts: { [letter in DateLetter]?: number } = {};
    letters.forEach((letter, index) => {
      parts[letter] = Number(match[index + 1]);
    });
    return dateRank(parts);
  };
}

/**
 * The rank that the parts of a date make. Without a year, or with a week and no month, only the time of modification
 * tells the order: `%d` begins again each month, and the days around New Year are of week 1 and of week 53 alike.
 *
 * @returns undefined where the parts are no date
 */
export function dateRank({ Y, m, d, H, M, S, V, s }: DateParts): Rank | undefined {
  if ((H ?? 0) > 23 || (M ?? 0) > 59 || (S ?? 0) > 60 || (V ?? 1) > 53 || V === 0) return undefined;
  if (s !== undefined) {
    const time = new Date(s * 1000);
    const day = time.getUTCFullYear() * 10000 + (time.getUTCMonth() + 1) * 100 + time.getUTCDate();
    return { kind: "date", key: [day, s % 86400] };
  }
  if ((m ?? 1) < 1 || (m ?? 1) > 12 || (d ?? 1) < 1 || (d ?? 1) > 31) return undefined;
  const isOrdered = Y !== undefined && (m !== undefined || (d === undefined && V === undefined && H === undefined));
  if (!isOrdered) return { kind: "modified" };
  const day = dayNumber(Y, m ?? 1, d ?? 1);
  if (day === undefined) return undefined;
  // What stands behind a gap (an hour without its day) begins again and again.
  const time = d === undefined ? [] : [H, M, S];
  const end = time.indexOf(undefined);
  return { kind: "date", key: [day, ...((end < 0 ? time : time.slice(0, end)) as number[])] };
}
