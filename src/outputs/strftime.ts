/** The conversions of strftime(3) that name files, all in UTC; `%L` is milliseconds. */
const CONVERSIONS: { readonly [letter: string]: (time: Date) => string } = {
  Y: (time) => String(time.getUTCFullYear()).padStart(4, "0"),
  y: (time) => two(time.getUTCFullYear() % 100),
  m: (time) => two(time.getUTCMonth() + 1),
  b: (time) => MONTHS[time.getUTCMonth()]!,
  d: (time) => two(time.getUTCDate()),
  j: (time) => String(dayOfYear(time)).padStart(3, "0"),
  a: (time) => DAYS[time.getUTCDay()]!,
  u: (time) => String(time.getUTCDay() || 7),
  H: (time) => two(time.getUTCHours()),
  M: (time) => two(time.getUTCMinutes()),
  S: (time) => two(time.getUTCSeconds()),
  L: (time) => String(time.getUTCMilliseconds()).padStart(3, "0"),
  s: (time) => String(Math.floor(time.getTime() / 1000)),
  F: (time) => strftime("%Y-%m-%d", time.getTime()),
  T: (time) => strftime("%H:%M:%S", time.getTime()),
  "%": () => "%",
};

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** True if `format` has a conversion and none that is unknown here. */
export function isStrftime(format: string): boolean {
  const conversions = [...format.matchAll(/%(.?)/gsu)];
  return conversions.length > 0 && conversions.every(([, letter]) => Object.hasOwn(CONVERSIONS, letter!));
}

/** `format` with its conversions replaced, for a time in milliseconds since the epoch. */
export function strftime(format: string, ms: number): string {
  const time = new Date(ms);
  return format.replace(/%(.)/gsu, (whole, letter: string) => CONVERSIONS[letter]?.(time) ?? whole);
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

function dayOfYear(time: Date): number {
  return Math.floor((time.getTime() - Date.UTC(time.getUTCFullYear(), 0, 1)) / 86_400_000) + 1;
}
