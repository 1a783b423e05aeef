/** RFC 3339, section 5.6: date-time. */
const DATE_TIME = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;

/** What 64 bits of nanoseconds hold: the years 1678 to 2261. */
const MIN_MS = Date.UTC(1678, 0, 1);
const MAX_MS = Date.UTC(2262, 0, 1);

/**
 * Nanoseconds since the epoch. Undefined for what is no RFC 3339 time, for more than nine digits of a second, for a leap
 * second, and for times that 64 bits of nanoseconds do not hold.
 */
export function parseTimestamp(text: string): bigint | undefined {
  const parts = DATE_TIME.exec(text);
  if (parts === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction = "", sign, offsetHours, offsetMinutes] = parts;
  const ms = Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second));
  if (!isSame(ms, Number(month), Number(day), Number(hour), Number(minute), Number(second))) return undefined;
  const offsetMs = sign === undefined ? 0 : (Number(offsetHours) * 60 + Number(offsetMinutes)) * 60_000;
  const utcMs = ms - (sign === "-" ? -offsetMs : offsetMs);
  if (utcMs < MIN_MS || utcMs >= MAX_MS) return undefined;
  return BigInt(utcMs) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
}

/** Date.UTC takes the 31st of June for the 1st of July. */
function isSame(ms: number, month: number, day: number, hour: number, minute: number, second: number): boolean {
  const date = new Date(ms);
  return (
    date.getUTCMonth() + 1 === month &&
    date.getUTCDate() === day &&
    date.getUTCHours() === hour &&
    date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second
  );
}
