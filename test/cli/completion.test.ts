/** The scripts as shells run them. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tweedie } from "../../src/cli/commands/index.ts";
import { completionScript } from "../../src/cli/completion/index.ts";
import { completionTree } from "../../src/cli/completion/tree.ts";
import { runCli } from "../../src/cli/run.ts";
import { PIPELINE_SAMPLERS } from "../../src/pipelines/swap-scheduler.ts";
import { SYSTEMS } from "../../src/systems/index.ts";

const folder = mkdtempSync(join(tmpdir(), "tweedie-completion-"));
const SHELLS = ["bash", "zsh", "fish"] as const;
const script = (shell: string): string => join(folder, `tweedie.${shell}`);
const has = (shell: string): boolean => spawnSync(shell, ["-c", "exit 0"]).status === 0;

beforeAll(async () => {
  for (const shell of SHELLS) writeFileSync(script(shell), await completionScript(shell, tweedie));
  mkdirSync(join(folder, "my pictures"));
  writeFileSync(join(folder, "my slice.png"), "");
});
afterAll(() => rmSync(folder, { recursive: true }));

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "");
const run = (shell: string, program: string, ...args: string[]): string[] =>
  lines(execFileSync(shell, ["-c", program, ...args], { cwd: folder, encoding: "utf8" }));

/** Words that a shell offers for the last of the given words. */
const OFFERS: Readonly<Record<(typeof SHELLS)[number], (...words: string[]) => string[]>> = {
  bash: (...words) =>
    run(
      "bash",
      `source ${script("bash")}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tweedie; printf '%s\\n' "\${COMPREPLY[@]}"`,
      "bash",
      "tweedie",
      ...words,
    ),
  // The functions of zsh's completion system work inside its line editor only: here they say what they are given.
  zsh: (...given) =>
    run(
      "zsh",
      `_describe() { local list=\${@[-1]}; for row in "\${(@P)list}"; do print -r -- "\${row%%:*}"; done }
       compadd() { shift; print -rl -- "$@" }
       _files() { print -r -- "files $1" }
       _message() { : }
       source ${script("zsh")}; words=(tweedie "$@"); CURRENT=$(($# + 1)); PREFIX="\${@[-1]}"; _tweedie`,
      "zsh",
      ...given,
    ).filter((word) => word.startsWith("files ") || word.startsWith(given.at(-1)!)),
  fish: (...words) =>
    run("fish", `source ${script("fish")}; complete -C $argv[1]`, ["tweedie", ...words].join(" ")).map(
      (line) => line.split("\t")[0]!,
    ),
};

describe.each(SHELLS)("in %s", (shell) => {
  const offered = OFFERS[shell];

  it.skipIf(!has(shell))("commands, systems, options and their values are offered", () => {
    expect(offered("ru")).toEqual(["run"]);
    expect(offered("").sort()).toEqual(expect.arrayContaining(["bench", "doctor", "generate", "train"]));
    expect(offered("run", "").sort()).toEqual(SYSTEMS.map(({ name }) => name).sort());
    expect(offered("run", "sdseg", "--mod").sort()).toEqual(["--mode", "--model"]);
    expect(offered("run", "sdseg", "--mode", "dd").sort()).toEqual(["ddim", "ddpm"]);
    expect(offered("run", "sdseg", "--model", "nuc")).toContain("nuclei");
    expect(offered("generate", "--sampler", "eul").sort()).toEqual(["euler", "euler-ancestral"]);
    expect(offered("generate", "--no-").sort()).toEqual(["--no-emphasis", "--no-metadata"]);
    expect(offered("models", "che")).toEqual(["check"]);
    expect(offered("completion", "z")).toEqual(["zsh"]);
    expect(offered("train", "umd", "--steps", "")).toEqual([]);
    expect(offered("zzz", "")).not.toContain("sdseg");
  });
});

describe("in bash", () => {
  it.skipIf(!has("bash"))("files and folders are offered where options take them, also with spaces", () => {
    expect(OFFERS.bash("run", "sdseg", "--image", "my").sort()).toEqual(["my pictures", "my slice.png"]);
    expect(OFFERS.bash("run", "sdseg", "--image", "my\\ s")).toEqual(["my slice.png"]);
    expect(OFFERS.bash("train", "sdseg", "--data", "my")).toEqual(["my pictures"]);
    expect(OFFERS.bash("run", "sdseg", "--mode", "=", "pl")).toEqual(["plms"]);
    expect(OFFERS.bash("run", "sdseg", "--mode", "=")).toContain("direct");
  });
});

describe("the tree behind the scripts", () => {
  it("has every command with every option, and words for choices", async () => {
    const nodes = await completionTree(tweedie);
    const at = (...path: string[]) => nodes.find((node) => node.path.join(" ") === path.join(" "))!;
    for (const system of SYSTEMS)
      for (const action of Object.keys(system.actions)) {
        const spellings = at(action, system.name).options.flatMap((o) => o.spellings);
        expect(spellings).toEqual(expect.arrayContaining(["--json", "--help"]));
      }
    const sampler = at("generate").options.find((o) => o.spellings.includes("--sampler"))!;
    expect(sampler.value?.words).toEqual(PIPELINE_SAMPLERS);
    expect(at("generate").options.find((o) => o.spellings.includes("-p"))!.spellings).toEqual([
      "--prompt",
      "-p",
    ]);
    expect(at("train", "sdseg").options.find((o) => o.spellings.includes("--data"))!.value?.paths).toBe(
      "folders",
    );
  });

  it("is asked for by the name of a shell", async () => {
    const errors: string[] = [];
    const terminal = { out: () => undefined, error: (text: string) => errors.push(text) };
    expect(await runCli(tweedie, ["completion", "bahs"], terminal)).toBe(2);
    expect(await runCli(tweedie, ["completion", "powershell"], terminal)).toBe(2);
    expect(errors.join("\n")).toMatch(/did you mean "bash"[\s\S]*known are bash, zsh, fish/);
  });
});
