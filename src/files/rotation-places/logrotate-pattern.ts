/**
 * A pattern of logrotate's configuration as a test of absolute paths: glob(7), where `*` and `?` match no slash and no
 * leading dot. Braces mean nothing.
 */
export function logrotatePattern(pattern: string): (path: string) => boolean {
  const source = new RegExp(
    `^${pattern
      .replace(/\/{2,}/g, "/")
      .split("/")
      .map(nameSource)
      .join("/")}$`,
    "s",
  );
  return (path) => source.test(path);
}

/** The folder in front of the first name that is a pattern: `/var/log` of `/var/log/*.log`. */
export function plainFolderOf(pattern: string): string {
  const plain = /^[^*?[\\]*/.exec(pattern)![0];
  return plain.slice(0, plain.lastIndexOf("/"));
}

/** One name of a pattern as a source of a regular expression. */
function nameSource(name: string): string {
  let source = /^(?:[*?]|\[)/.test(name) ? "(?!\\.)" : "";
  for (let at = 0; at < name.length; at += 1) {
    const character = name[at]!;
    if (character === "*") source += "[^/]*";
    else if (character === "?") source += "[^/]";
    else if (character === "[") {
      const set = /^\[(!|\^)?(\]?[^\]]*)\]/.exec(name.slice(at));
      if (set === null) source += "\\[";
      else {
        source += `[${set[1] === undefined ? "" : "^/"}${set[2]!.replace(/[\\\]^[]/g, "\\$&")}]`;
        at += set[0].length - 1;
      }
    } else if (character === "\\" && at + 1 < name.length) {
      at += 1;
      source += escaped(name[at]!);
    } else source += escaped(character);
  }
  return source;
}

export function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}
