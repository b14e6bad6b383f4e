/** Completion for zsh. */
import { type CompletionNode, type CompletionOption, steps, type Value } from "./tree.ts";

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** `word:about` as `_describe` takes it. */
const described = (word: string, about: string): string => quoted(`${word.replaceAll(":", "\\:")}:${about}`);

function offers({ words, paths }: Value, about: string): string[] {
  const all = [
    ...(words.length > 0 ? [`compadd -- ${words.map(quoted).join(" ")}`] : []),
    ...(paths === "none" ? [] : [paths === "files" ? "_files" : "_files -/"]),
  ];
  return all.length > 0 ? all : [`_message ${quoted(about)}`];
}

const valueCases = (nodes: readonly CompletionNode[]): string[] =>
  nodes.flatMap(({ path, options }) =>
    options.flatMap(({ spellings, value, about }) => {
      if (!value) return [];
      const labels = spellings.map((spelling) => quoted(`${path.join(" ")}:${spelling}`)).join("|");
      return `    (${labels}) ${[...offers(value, about), "return"].join("; ")} ;;`;
    }),
  );

const optionRows = (options: readonly CompletionOption[]): string =>
  options.flatMap(({ spellings, about }) => spellings.map((s) => described(s, about))).join(" ");

const wordCases = (nodes: readonly CompletionNode[]): string[] =>
  nodes.map(({ path, commands, options, words }) => {
    const rows = commands.map(({ word, about }) => described(word, about));
    const plain = [
      ...(rows.length > 0 ? [`found=(${rows.join(" ")}); _describe command found`] : []),
      ...(words.words.length > 0 || words.paths !== "none" ? offers(words, "") : []),
    ];
    return [
      `    (${quoted(path.join(" "))})`,
      `      if [[ $PREFIX == -* ]]; then found=(${optionRows(options)}); _describe -o option found`,
      `      else ${plain.length > 0 ? plain.join("; ") : ":"}`,
      "      fi ;;",
    ].join("\n");
  });

export const zshScript = (nodes: readonly CompletionNode[]): string => `#compdef tweedie
# Completion of tweedie for zsh. Save as _tweedie in a folder of $fpath, or: source <(tweedie completion zsh)

_tweedie() {
  local command="" option=\${words[CURRENT-1]} i
  local -a found
  if [[ $PREFIX == --*=* ]]; then
    option=\${PREFIX%%=*}
    compset -P '*='
  fi
  for ((i = 2; i < CURRENT; i++)); do
    case "$command \${words[i]}" in
      (${steps(nodes).map(quoted).join("|")}) command="\${command:+$command }\${words[i]}" ;;
      (*) break ;;
    esac
  done
  case "$command:$option" in
${valueCases(nodes).join("\n")}
  esac
  case "$command" in
${wordCases(nodes).join("\n")}
  esac
}

if [[ $funcstack[1] == _tweedie ]]; then _tweedie "$@"
elif (( $+functions[compdef] )); then compdef _tweedie tweedie
fi
`;
