import { allNodes, type CompletionNode, type Follow } from "./completion-tree.ts";

/*
 * bash and zsh get the same little machine: it walks over the words before the cursor, keeps the command they lead to,
 * what the last option waits for and how many arguments were given, then offers what may come next.
 *
 *   tailrace checkpoints list -e te|
 *            command="checkpoints list"  expects="words development production test"
 */

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

export function completionScript(shell: Shell, tree: CompletionNode): string {
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](tree);
}

/** Text as one single-quoted word of bash and zsh. */
const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** One word that says what is expected: `file`, `folder`, `anything` or `words a b c`. */
const followWord = (follow: Follow): string =>
  follow.kind === "words" ? `words ${follow.words.join(" ")}` : follow.kind;

const nameOf = (node: CompletionNode): string => node.path.join(" ");

const caseOf = (patterns: readonly string[], body: string): string =>
  `      ${patterns.map(quote).join("|")}) ${body} ;;`;

/** `command word` -> the command it leads to, or what the option waits for. */
function transitions(tree: CompletionNode): string[] {
  return allNodes(tree).flatMap((node) => [
    ...node.commands.map((child) =>
      caseOf([`${nameOf(node)}:${child.path.at(-1)}`], `command=${quote(nameOf(child))}`),
    ),
    ...node.options.flatMap(({ flags, value }) =>
      value === undefined
        ? []
        : [
            caseOf(
              flags.map((flag) => `${nameOf(node)}:${flag}`),
              `expects=${quote(followWord(value))}`,
            ),
          ],
    ),
  ]);
}

/** `command` -> its options, its commands, and what its arguments are. */
function offers(tree: CompletionNode): string[] {
  return allNodes(tree).flatMap((node) => {
    const flags = node.options.flatMap((option) => option.flags).join(" ");
    const commands = node.commands.map((child) => child.path.at(-1)).join(" ");
    const args = node.args.map((follow, at) => `${at}) expects=${quote(followWord(follow))} ;;`).join(" ");
    const byPosition = args === "" ? "" : `; case $position in ${args} esac`;
    const more = commands === "" ? byPosition : `; expects=${quote(`words ${commands}`)}`;
    return [caseOf([nameOf(node)], `flags=${quote(flags)}${more}`)];
  });
}

function bashScript(tree: CompletionNode): string {
  return `# bash completion for tailrace; try it with: source <(tailrace completion bash)
_tailrace() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" command="" expects="" flags="" word position=0 at
  local IFS=$'\\n'
  COMPREPLY=()
  for ((at = 1; at < COMP_CWORD; at++)); do
    word="\${COMP_WORDS[at]}"
    # bash cuts --option=value into three words.
    if [[ $word == "=" ]]; then continue; fi
    if [[ -n $expects ]]; then expects=""; continue; fi
    case "$command:$word" in
${transitions(tree).join("\n")}
      *:-*) ;;
      *) position=$((position + 1)) ;;
    esac
  done
  if [[ $cur == "=" ]]; then cur=""; fi
  if [[ -z $expects ]]; then
    case "$command" in
${offers(tree).join("\n")}
    esac
    if [[ $cur == -* ]]; then expects="words $flags"; fi
  fi
  case "$expects" in
    file) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    folder) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur")) ;;
    words*) IFS=$' \\n'; COMPREPLY=($(compgen -W "\${expects#words }" -- "$cur")) ;;
  esac
}
complete -F _tailrace tailrace
`;
}

function zshScript(tree: CompletionNode): string {
  return `#compdef tailrace
# zsh completion for tailrace; put it into a folder of $fpath as _tailrace, or: source <(tailrace completion zsh)
_tailrace() {
  local cur="\${words[CURRENT]}" command="" expects="" flags="" word
  local -i position=0 at
  for ((at = 2; at < CURRENT; at++)); do
    word="\${words[at]}"
    if [[ -n $expects ]]; then expects=""; continue; fi
    case "$command:$word" in
${transitions(tree).join("\n")}
      *:-*) ;;
      *) position=$((position + 1)) ;;
    esac
  done
  if [[ -z $expects ]]; then
    case "$command" in
${offers(tree).join("\n")}
    esac
    if [[ $cur == -* ]]; then expects="words $flags"; fi
  fi
  case "$expects" in
    file) _files ;;
    folder) _files -/ ;;
    words*) compadd -- \${=expects#words } ;;
  esac
}
if [[ \${funcstack[1]} == _tailrace ]]; then _tailrace "$@"; else compdef _tailrace tailrace; fi
`;
}

/** In fish single quotes only the quote and the backslash are special. */
const fishQuote = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;

function fishScript(tree: CompletionNode): string {
  const lines = allNodes(tree).flatMap((node) => {
    const here = `complete -c tailrace -n ${fishQuote(fishCondition(node))}`;
    const commands = node.commands.map(
      (child) => `${here} -f -a ${fishQuote(child.path.at(-1)!)} -d ${fishQuote(child.description)}`,
    );
    const options = node.options.map(({ flags, description, value }) => {
      const names = flags.map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
      return `${here} ${names.join(" ")}${fishValue(value)} -d ${fishQuote(description)}`;
    });
    const args = node.args.map((follow) => `${here}${fishArgument(follow)}`);
    return [...commands, ...options, ...args];
  });
  return `# fish completion for tailrace; put it into ~/.config/fish/completions/tailrace.fish\n${lines.join("\n")}\n`;
}

/** True behind exactly this command: all of its names were seen, and none of its own commands. */
function fishCondition(node: CompletionNode): string {
  const below = node.commands.map((child) => child.path.at(-1)!);
  if (node.path.length === 0) return "__fish_use_subcommand";
  const seen = node.path.map((name) => `__fish_seen_subcommand_from ${name}`);
  const notYet = below.length === 0 ? [] : [`not __fish_seen_subcommand_from ${below.join(" ")}`];
  return [...seen, ...notYet].join("; and ");
}

function fishValue(value: Follow | undefined): string {
  if (value === undefined) return "";
  if (value.kind === "words") return ` -x -a ${fishQuote(value.words.join(" "))}`;
  if (value.kind === "folder") return " -x -a '(__fish_complete_directories)'";
  return value.kind === "file" ? " -r -F" : " -x";
}

function fishArgument(follow: Follow): string {
  if (follow.kind === "words") return ` -f -a ${fishQuote(follow.words.join(" "))}`;
  if (follow.kind === "folder") return " -f -a '(__fish_complete_directories)'";
  return follow.kind === "file" ? " -F" : " -f";
}
