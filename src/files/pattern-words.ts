import { expandBraces } from "./braces.ts";
import { isMagic } from "./name-pattern.ts";
import { PatternError } from "./pattern-error.ts";

/** The absolute paths that a pattern stands for, each as its names with their wildcards and escapes. */
export function pathsOf(text: string, workingFolder: string): string[][] {
  return wordsIn(text).map((quoted) => {
    const word = quoted.replace(/\\./gs, (pair) => (pair === "\\/" ? "/" : pair));
    if (/(^|\/)\.{0,2}$/.test(word)) {
      throw new PatternError(`${text} means a folder, and no file; end it with /* or /** for the files in it`);
    }
    const isAbsolute = word.startsWith("/");
    // Whatever the working folder is called, it is no pattern.
    const parts = isAbsolute ? [] : partsOf(workingFolder.replace(/[\\*?[\]]/g, "\\$&"));
    for (const part of partsOf(word)) {
      if (part !== "..") parts.push(part);
      else if (isMagic(parts.pop() ?? ""))
        throw new PatternError(`${text} goes up (..) from a wildcard; leave both out`);
    }
    return parts;
  });
}

/** The words that the braces stand for, of which each can mean something. */
export function wordsIn(text: string): string[] {
  if (text.includes("\0")) throw new PatternError("no path holds a NUL character");
  const words = expandBraces(text).filter((word) => word !== "");
  if (words.length === 0) throw new PatternError(`${text} stands for no path at all`);
  for (const word of words) refuseHalves(word);
  return words;
}

function refuseHalves(word: string): void {
  const bare = word.replace(/\\./gs, "x").replace(/\[[!^]?\]?[^\]]*\]/g, "x");
  if (/\{[^}]*$/.test(bare)) {
    throw new PatternError(`a { has no closing } in ${word}; write [{] for a brace that is part of the name`);
  }
  if (/[?*+@!]\([^)]*\)|\([^)|]*\|[^)]*\)/.test(bare)) {
    throw new PatternError(
      `extended patterns such as @(a|b) have no meaning here, in ${word}; write {a,b} for alternatives, and [(] for a parenthesis that is part of the name`,
    );
  }
}

function partsOf(word: string): string[] {
  return word.split("/").filter((part) => part !== "" && part !== ".");
}
