/** `tweedie completion`: its declaration. */
import { COMPLETION_OPTIONS } from "../completion/options.ts";
import type { HelpfulCommand } from "../help.ts";

/** The command, which completes the commands of the tree that it is part of. */
export const completionOf = (root: () => HelpfulCommand): HelpfulCommand => ({
  meta: {
    name: "completion",
    description: "Prints a script by which bash, zsh or fish complete commands, options and values.",
  },
  args: COMPLETION_OPTIONS,
  examples: [
    "source <(tweedie completion bash)    # now; for ever: add this line to ~/.bashrc",
    "tweedie completion zsh > ~/.zfunc/_tweedie    # with fpath+=(~/.zfunc) before compinit in ~/.zshrc",
    "tweedie completion fish > ~/.config/fish/completions/tweedie.fish",
  ],
  run: async ({ rawArgs }) => (await import("../completion/index.ts")).completion(rawArgs, root()),
});
