/** Completion for bash, from 3.2 on, which macOS has. */
import { type CompletionNode, steps, type Value } from "./tree.ts";

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** Commands that offer a value. */
function offers({ words, paths }: Value): string[] {
  return [
    ...(words.length > 0 ? [`_tweedie_words ${words.map(quoted).join(" ")}`] : []),
    ...(paths === "none" ? [] : [`_tweedie_paths ${paths === "files" ? "-f" : "-d"}`]),
  ];
}

/** Values of options: `COMMAND:--option`. An option whose value is free offers nothing. */
const valueCases = (nodes: readonly CompletionNode[]): string[] =>
  nodes.flatMap(({ path, options }) =>
    options.flatMap(({ spellings, value }) => {
      if (!value) return [];
      const labels = spellings.map((spelling) => quoted(`${path.join(" ")}:${spelling}`)).join("|");
      return `    ${labels}) ${[...offers(value), "return"].join("; ")} ;;`;
    }),
  );

/** What may come next in a command: its commands, its options, paths. */
const wordCases = (nodes: readonly CompletionNode[]): string[] =>
  nodes.map(({ path, commands, options, words }) => {
    const dashed = options.flatMap(({ spellings }) => spellings).map(quoted);
    const plain = offers({ ...words, words: [...commands.map(({ word }) => word), ...words.words] });
    const otherwise = plain.length > 0 ? plain.join("; ") : ":";
    return [
      `    ${quoted(path.join(" "))})`,
      `      if [[ $current == -* ]]; then _tweedie_words ${dashed.join(" ")}`,
      `      else ${otherwise}`,
      "      fi ;;",
    ].join("\n");
  });

export const bashScript = (nodes: readonly CompletionNode[]): string => `# Completion of tweedie for bash.
# source <(tweedie completion bash), for ever: add that line to ~/.bashrc

_tweedie_words() {
  local word
  for word in "$@"; do
    [[ $word == "$current"* ]] && COMPREPLY+=("$word")
  done
}

_tweedie_paths() {
  local path
  compopt -o filenames 2>/dev/null
  while IFS= read -r path; do
    COMPREPLY+=("$path")
  done < <(compgen "$1" -- "\${current//\\\\/}")
}

_tweedie() {
  local current=\${COMP_WORDS[COMP_CWORD]} option=\${COMP_WORDS[COMP_CWORD - 1]} command="" i
  COMPREPLY=()
  # --option=value comes as three words.
  if [[ $current == = ]]; then current=""
  elif [[ $option == = ]]; then option=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$command \${COMP_WORDS[i]}" in
      ${steps(nodes).map(quoted).join("|")}) command="\${command:+$command }\${COMP_WORDS[i]}" ;;
      *) break ;;
    esac
  done
  case "$command:$option" in
${valueCases(nodes).join("\n")}
  esac
  case "$command" in
${wordCases(nodes).join("\n")}
  esac
}

complete -F _tweedie tweedie
`;
