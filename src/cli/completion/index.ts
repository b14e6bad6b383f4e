/** `tweedie completion`: scripts that let shells complete commands, options and their values. */
import type { CommandDef } from "citty";
import { UsageError } from "../errors.ts";
import { suggestion } from "../nearest.ts";
import { readOptions } from "../options.ts";
import { bashScript } from "./bash.ts";
import { fishScript } from "./fish.ts";
import { COMPLETION_OPTIONS, SHELLS } from "./options.ts";
import { type CompletionNode, completionTree } from "./tree.ts";
import { zshScript } from "./zsh.ts";

type Shell = (typeof SHELLS)[number];

const SCRIPTS: Readonly<Record<Shell, (nodes: readonly CompletionNode[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/** The script for a shell, made of all commands. */
export const completionScript = async (shell: Shell, root: CommandDef): Promise<string> =>
  SCRIPTS[shell](await completionTree(root));

/** Runs `tweedie completion`. */
export async function completion(args: readonly string[], root: CommandDef): Promise<void> {
  const [word = ""] = readOptions(args, COMPLETION_OPTIONS).positionals;
  const shell = SHELLS.find((known) => known === word);
  if (!shell)
    throw new UsageError(
      `unknown shell "${word}"${suggestion(word, SHELLS) || `; known are ${SHELLS.join(", ")}`}`,
    );
  process.stdout.write(await completionScript(shell, root));
}
