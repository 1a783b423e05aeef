import { withoutFormatEnding } from "../../codec/decompress.ts";
import type { BytePath } from "../../runtime/byte-path.ts";
import { extensionOf, type FolderRank, familyOf, parseDate, parseTag, type Rank } from "../family.ts";

const YEAR = /^(?:19|20|21)\d\d$/;

/**
 * The rank that a folder's name tells, or the names of several, joined by `-`: `2026-01-31`, `app.20260131`, `app.1`, `2`.
 * Undefined: it tells none, so that it is some other folder.
 */
export function folderRankOf(text: string): FolderRank | undefined {
  if (YEAR.test(text)) return { kind: "date", key: [Number(text) * 10000 + 101] };
  const rank = parseTag(`.${text}`) ?? parseTag(text) ?? dateIn(text);
  if (rank?.kind === "date" || rank?.kind === "number") return rank;
  const number = /\.(\d{1,4})$/.exec(text)?.[1];
  return number === undefined ? undefined : { kind: "number", number: Number(number) };
}

/**
 * The rank of a name by the stretch of it that a `*` stands for: a tag of rotation, with or without what parts it from
 * the name, or a date somewhere in it. Any other stretch with a digit is of the family, too, since the pattern says so,
 * but only the time of modification tells its age; unless the name is another log's.
 *
 * @param isTag the stretch follows the base's name at once, so that `app2.log` and `app-8080.log` are none of `app`
 */
export function looseRank(text: string, isTag: boolean): Rank | undefined {
  const plain = withoutFormatEnding(text);
  if (plain === "") return { kind: "modified" };
  const bare = plain.slice(0, plain.length - extensionOf(plain).length);
  if (isTag && !/^[^A-Za-z0-9]/.test(plain)) return undefined;
  const rank = parseTag(plain) ?? parseTag(bare) ?? parseTag(`.${plain}`) ?? parseTag(`.${bare}`) ?? dateIn(bare);
  if (rank !== undefined) return rank;
  if (!/\d/.test(plain)) return undefined;
  const isOther = isTag && (bare !== plain || familyOf(`x${plain}` as BytePath).rank.kind !== "none");
  return isOther ? undefined : { kind: "modified" };
}

function dateIn(text: string): Rank | undefined {
  const date = /(?<!\d)\d{4}[-._]?\d\d.*$/s.exec(text)?.[0];
  const key = date === undefined ? undefined : parseDate(date);
  return key === undefined ? undefined : { kind: "date", key };
}
