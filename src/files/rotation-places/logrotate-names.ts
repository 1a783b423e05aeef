import { type CompressionFormat, formatOfName, withoutFormatEnding } from "../../codec/decompress.ts";
import { type BytePath, baseName } from "../../runtime/byte-path.ts";
import { extensionOf, type Rank, type Sibling } from "../family.ts";
import { dateFormatParser } from "./date-format.ts";
import type { LogrotateNaming } from "./logrotate-config.ts";

/** Programs that a `compresscmd` may name, by what they make. */
const COMMAND_FORMATS: { readonly [command: string]: CompressionFormat } = {
  gzip: "gzip",
  pigz: "gzip",
  bzip2: "bzip2",
  pbzip2: "bzip2",
  lbzip2: "bzip2",
  xz: "xz",
  pixz: "xz",
  zstd: "zstd",
  zstdmt: "zstd",
  pzstd: "zstd",
};

/**
 * Tells of one name after the other whether logrotate makes it of the log `base` by this rule, and of which generation it
 * is: `NAME.N` or `NAME` and the date, in front of `extension` or `addextension`, then the ending of the compression.
 */
export function logrotateNameParser(naming: LogrotateNaming, base: BytePath): (name: BytePath) => Sibling | undefined {
  const { stem, ending } = splitBase(naming, baseName(base));
  const rankOf = tagParser(naming);
  return (name) => {
    const compression = compressionOf(naming, name);
    const plainName = compression === undefined ? name : (name.slice(0, -compression.ending.length) as BytePath);
    const tagEnd = plainName.length - ending.length;
    const last = baseName(plainName);
    if (last.length <= stem.length + ending.length || !last.startsWith(stem) || !last.endsWith(ending))
      return undefined;
    const rank = rankOf(plainName.slice(plainName.length - last.length + stem.length, tagEnd));
    if (rank === undefined) return undefined;
    return { name, plainName, rank, ...(compression === undefined ? {} : { compression: compression.format }) };
  };
}

/** Whether a rule makes names that the rules of families (family.ts) know nothing of. */
export function makesOddNames({ dateFormat, extension, addExtension, compressExtension }: LogrotateNaming): boolean {
  const isUsualDate = dateFormat === undefined || dateFormat === "-%Y%m%d" || dateFormat === "-%Y%m%d%H";
  const isUsualEnd =
    (extension === undefined || extensionOf(`x${extension}`) === extension) && addExtension === undefined;
  return !isUsualDate || !isUsualEnd || formatOfName(`x${compressExtension}`) === undefined;
}

/** The names of logs that logrotate may have made `name` of, by this rule. */
export function logrotateBaseNames(naming: LogrotateNaming, name: BytePath): BytePath[] {
  const compression = compressionOf(naming, name);
  const plain = compression === undefined ? name : name.slice(0, -compression.ending.length);
  const { extension = "", addExtension = "" } = naming;
  const rankOf = tagParser(naming);
  const bases: BytePath[] = [];
  for (const ending of new Set([extension, addExtension, ""])) {
    if (!plain.endsWith(ending)) continue;
    const end = plain.length - ending.length;
    for (let at = 1; at < end; at += 1) {
      if (rankOf(plain.slice(at, end)) === undefined) continue;
      bases.push((plain.slice(0, at) + ending) as BytePath);
      if (ending === addExtension) bases.push(plain.slice(0, at) as BytePath);
    }
  }
  return [...new Set(bases)];
}

function tagParser({ dateFormat }: LogrotateNaming): (tag: string) => Rank | undefined {
  const dated = dateFormat === undefined || dateFormat.includes("/") ? () => undefined : dateFormatParser(dateFormat);
  return (tag) => (/^\.\d{1,4}$/.test(tag) ? { kind: "number", number: Number(tag.slice(1)) } : dated(tag));
}

function splitBase(
  { extension = "", addExtension = "" }: LogrotateNaming,
  own: string,
): { stem: string; ending: string } {
  let stem = own;
  let ending = addExtension;
  if (addExtension !== "" && stem.endsWith(addExtension)) stem = stem.slice(0, -addExtension.length);
  if (extension !== "" && stem.endsWith(extension)) {
    stem = stem.slice(0, -extension.length);
    ending = extension;
  }
  return { stem, ending };
}

function compressionOf(
  { compressExtension, compressCommand }: LogrotateNaming,
  name: string,
): { readonly format: CompressionFormat; readonly ending: string } | undefined {
  // A rule of its own may have made what is older.
  const known = formatOfName(name);
  if (known !== undefined) return { format: known, ending: name.slice(withoutFormatEnding(name).length) };
  const format = COMMAND_FORMATS[compressCommand];
  const isOwn = format !== undefined && compressExtension !== "" && name.endsWith(compressExtension);
  return isOwn ? { format, ending: compressExtension } : undefined;
}
