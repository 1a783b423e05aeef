/*
 * The language of logrotate's configuration (logrotate.conf(5)), as its own program reads it:
 *
 *   # a comment            only where the line begins with it
 *   dateext                a directive and its value, to the end of the line; parted by blanks, or one `=`
 *   include /etc/logrotate.d
 *   /var/log/app/*.log "/var/log/two words.log" {        patterns, quoted as in a shell, on one line or on several
 *     olddir old
 *     postrotate           a script, to the line that begins with `endscript`
 *       kill -HUP 1
 *     endscript
 *   }
 */

export interface Directive {
  readonly name: string;
  /** Empty where none was given. */
  readonly value: string;
  /** From 1. */
  readonly line: number;
}

interface Block {
  readonly patterns: readonly string[];
  readonly directives: readonly Directive[];
  /** Of its first pattern, from 1. */
  readonly line: number;
}

export type Statement = ({ readonly kind: "directive" } & Directive) | ({ readonly kind: "block" } & Block);

const SCRIPTS = new Set(["prerotate", "postrotate", "firstaction", "lastaction", "preremove"]);
/** Those that matter here and have no value: another directive, or `}`, may follow on the line. */
const FLAGS = new Set(["noolddir", "dateext", "nodateext", "hourly", "daily", "monthly", "yearly", "missingok"]);

/** Statements in their order. What is none is passed over, as far as it can be told where it ends; never throws. */
export function parseLogrotate(text: string): Statement[] {
  return new Parser(text).statements();
}

class Parser {
  readonly #text: string;
  #at = 0;
  #line = 1;

  constructor(text: string) {
    this.#text = text;
  }

  statements(): Statement[] {
    const statements: Statement[] = [];
    while (this.#toNext()) {
      if (/["'/~]/.test(this.#text[this.#at]!)) {
        const block = this.#block();
        if (block !== undefined) statements.push({ kind: "block", ...block });
      } else {
        const directive = this.#directive();
        if (directive !== undefined) statements.push({ kind: "directive", ...directive });
      }
    }
    return statements;
  }

  #block(): Block | undefined {
    const line = this.#line;
    let header = "";
    for (;;) {
      const end = this.#text.slice(this.#at).search(/[{\n]/);
      if (end < 0) {
        this.#at = this.#text.length;
        return undefined;
      }
      header += this.#text.slice(this.#at, this.#at + end);
      this.#at += end;
      if (this.#text[this.#at] === "{") break;
      header += " ";
      // Comments may stand between the patterns.
      if (!this.#toNext()) return undefined;
    }
    this.#at += 1;
    const directives: Directive[] = [];
    while (this.#toNext()) {
      if (this.#text[this.#at] === "}") {
        // What follows on this line is an error to logrotate, and not read.
        this.#restOfLine();
        return { patterns: splitWords(header), directives, line };
      }
      const directive = this.#directive();
      if (directive !== undefined) directives.push(directive);
    }
    return undefined;
  }

  /** At a word; undefined for what is no directive, or one with a script. */
  #directive(): Directive | undefined {
    const line = this.#line;
    const name = /^[A-Za-z]+/.exec(this.#text.slice(this.#at, this.#at + 64))?.[0] ?? "";
    this.#at += name.length;
    const isParted = /^(?:[\s=}]|$)/.test(this.#text.slice(this.#at, this.#at + 1));
    if (name === "" || !isParted) {
      this.#restOfLine();
      return undefined;
    }
    if (FLAGS.has(name)) return { name, value: "", line };
    const value = this.#restOfLine();
    if (SCRIPTS.has(name)) {
      this.#skipScript();
      return undefined;
    }
    // `{ compress }`: logrotate sees the brace, too.
    if (value === "}") this.#at -= 1 + this.#trailing;
    return { name, value: value === "}" ? "" : value, line };
  }

  /** How many blanks ended the last line. */
  #trailing = 0;

  /** To the end of the line, which stays to be read; without blanks around, and without a `=` in front. */
  #restOfLine(): string {
    const end = this.#text.indexOf("\n", this.#at);
    const rest = this.#text.slice(this.#at, end < 0 ? undefined : end);
    this.#at += rest.length;
    const value = rest.replace(/[ \t\r]+$/, "");
    this.#trailing = rest.length - value.length;
    return value.replace(/^[ \t]*=?[ \t]*/, "");
  }

  #skipScript(): void {
    while (this.#at < this.#text.length) {
      this.#at += 1;
      this.#line += 1;
      const line = this.#restOfLine();
      if (/^endscript(?:\s|$)/.test(line)) return;
    }
  }

  /** Over blanks, ends of lines and comments; false at the end of the text. */
  #toNext(): boolean {
    let isLineStart = this.#at === 0 || this.#text[this.#at] === "\n" || this.#text[this.#at - 1] === "\n";
    for (; this.#at < this.#text.length; this.#at += 1) {
      const character = this.#text[this.#at]!;
      if (character === "\n") {
        this.#line += 1;
        isLineStart = true;
      } else if (character === "#" && isLineStart) {
        this.#restOfLine();
        this.#at -= 1;
      } else if (!/\s/.test(character)) return true;
    }
    return false;
  }
}

/** As a shell parts words: blanks, both kinds of quotes, and backslashes. A word that does not end is left out. */
function splitWords(text: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]!;
    if (quote !== "") {
      if (character === quote) quote = "";
      else if (character === "\\" && text[at + 1] === quote) {
        word += quote;
        at += 1;
      } else word += character;
    } else if (character === '"' || character === "'") {
      quote = character;
      word ??= "";
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === "\\") {
      at += 1;
      word = (word ?? "") + (text[at] ?? "");
    } else word = (word ?? "") + character;
  }
  if (word !== undefined && quote === "") words.push(word);
  return words;
}
