import type { SourceStatus } from "../stage/contract.ts";

/** More of them are only counted. */
const MAX_LISTED = 100;

/** Files that could not be read, one or many, in one sentence. */
export function unreadableText(files: NonNullable<SourceStatus["unreadable"]>): string {
  const listed = files.slice(0, MAX_LISTED).map(({ path, reason }) => `${path} (${reason})`);
  if (files.length > MAX_LISTED) listed.push(`and ${files.length - MAX_LISTED} more`);
  return `${files.length} ${files.length === 1 ? "file" : "files"} could not be read: ${listed.join("; ")}`;
}
