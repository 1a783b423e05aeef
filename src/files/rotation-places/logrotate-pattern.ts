/**
 * A pattern of logrotate's configuration as a test of absolute paths: glob(7), where `*` and `?` match no slash and no
 * leading dot. Braces mean nothing.
 */
export function logrotatePattern(pattern: string): (path: string) => boolean {
  const names = pattern.replace(/\/{2,}/g, "/").split("/");
  return tester(names.map(nameSource).join("/"));
}

/** The same of one name, with anything in front of it if `isEnding`. */
export function namePattern(pattern: string, isEnding = false): (name: string) => boolean {
  return tester((isEnding ? ".*" : "") + nameSource(pattern));
}

/** The folder in front of the first name that is a pattern: `/var/log` of `/var/log/*.log`. */
export function plainFolderOf(pattern: string): string {
  const plain = /^[^*?[\\]*/.exec(pattern)![0];
  return plain.slice(0, plain.lastIndexOf("/"));
}

/** Text as a source of a regular expression. */
export function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}

function tester(source: string): (text: string) => boolean {
  try {
    const expression = new RegExp(`^${source}$`, "s");
    return (text) => expression.test(text);
  } catch {
    // A range that ends before it begins: `[z-a]` matches nothing.
    return () => false;
  }
}

/** One name of a pattern as a source of a regular expression. */
function nameSource(name: string): string {
  let source = /^(?:[*?]|\[)/.test(name) ? "(?!\\.)" : "";
  for (let at = 0; at < name.length; at += 1) {
    const character = name[at]!;
    const set = character === "[" ? /^\[([!^]?)(\]?[^\]]*)\]/.exec(name.slice(at)) : null;
    if (character === "*") source += "[^/]*";
    else if (character === "?") source += "[^/]";
    else if (set !== null) {
      source += `[${set[1] === "" ? "" : "^/"}${set[2]!.replace(/[\\\]^[]/g, "\\$&")}]`;
      at += set[0].length - 1;
    } else if (character === "\\" && at + 1 < name.length) {
      at += 1;
      source += escaped(name[at]!);
    } else source += escaped(character);
  }
  return source;
}
