import { z } from "zod";

/** Option fields of every source that cuts bytes into lines. */
export const maxLineBytes = () =>
  z
    .int()
    .positive()
    .default(1048576)
    .describe("Longest line in bytes, delimiter not counted; a longer one is cut into records of at most that many.");

export const lineDelimiter = () =>
  z.string().min(1).default("\n").describe("What ends a line; encoded as the content is.");

export const encodingLabel = () =>
  z
    .string()
    .default("utf-8")
    .refine(isEncoding, "is no encoding label of the WHATWG standard; such as utf-8, utf-16le, windows-1252")
    .describe("Encoding of the content, a WHATWG label.");

function isEncoding(label: string): boolean {
  try {
    new TextDecoder(label);
    return true;
  } catch {
    return false;
  }
}

/** The standard's own name of an encoding, which the codecs compare with. */
export function encodingName(label: string): string {
  return new TextDecoder(label).encoding;
}

/** Every WHATWG encoding but UTF-16 has the ASCII characters at their ASCII bytes. */
export function encodeDelimiter(delimiter: string, encoding: string): Buffer {
  if (encoding === "utf-16le") return Buffer.from(delimiter, "utf16le");
  if (encoding === "utf-16be") return Buffer.from(delimiter, "utf16le").swap16();
  return Buffer.from(delimiter, encoding === "utf-8" ? "utf8" : "latin1");
}
