/** Completion for fish. */
import { type CompletionNode, type CompletionOption, steps, type Value } from "./tree.ts";

const quoted = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;

/** Flags of \`complete\` for a value: exclusive words, folders, or files beside the words. */
function valueFlags({ words, paths }: Value): string {
  const list = words.length > 0 ? ` -a ${quoted(words.join(" "))}` : "";
  if (paths === "none") return ` -x${list}`;
  if (paths === "folders")
    return ` -x -a ${quoted(`${words.join(" ")} (__fish_complete_directories)`.trim())}`;
  return ` -r -F${list}`;
}

function optionLine(at: string, { spellings, about, value }: CompletionOption): string {
  const names = spellings.map((s) => (s.startsWith("--") ? `-l ${s.slice(2)}` : `-s ${s.slice(1)}`));
  return `complete -c tweedie ${at} ${names.join(" ")}${value ? valueFlags(value) : ""} -d ${quoted(about)}`;
}

function linesOf({ path, commands, options, words }: CompletionNode): string[] {
  const at = `-n ${quoted(`__tweedie_at ${quoted(path.join(" "))}`)}`;
  return [
    ...commands.map(({ word, about }) => `complete -c tweedie ${at} -a ${quoted(word)} -d ${quoted(about)}`),
    ...(words.words.length > 0 ? [`complete -c tweedie ${at} -a ${quoted(words.words.join(" "))}`] : []),
    ...(words.paths === "none" ? [] : [`complete -c tweedie ${at} -F`]),
    ...options.map((option) => optionLine(at, option)),
  ];
}

export const fishScript = (nodes: readonly CompletionNode[]): string => `# Completion of tweedie for fish.
# tweedie completion fish > ~/.config/fish/completions/tweedie.fish

function __tweedie_at --argument-names wanted
    set -l command ''
    for word in (commandline -opc)[2..-1]
        switch "$command $word"
            case ${steps(nodes).map(quoted).join(" ")}
                set command (string trim "$command $word")
            case '*'
                break
        end
    end
    test "$command" = "$wanted"
end

complete -c tweedie -f
${nodes.flatMap(linesOf).join("\n")}
`;
