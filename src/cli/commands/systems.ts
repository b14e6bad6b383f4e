/** `tweedie systems`: what there is. */
import { SYSTEMS, type System } from "../../systems/index.ts";
import type { HelpfulCommand } from "../help.ts";
import { type Options, readOptions } from "../options.ts";
import { styled } from "../terminal.ts";

const SYSTEMS_OPTIONS = {
  json: { type: "boolean", description: "prints one line of JSON per system" },
} as const satisfies Options;

function line({ name, title, about, paper, claim, actions, checkpoints }: System): string {
  return JSON.stringify({ name, title, about, paper, claim, actions: Object.keys(actions), checkpoints });
}

function describe({ name, title, paper, claim, actions, checkpoints }: System): string {
  const arxiv = paper.arxiv ? `, arXiv ${paper.arxiv}` : "";
  return [
    styled(`${name}: ${title}`, "bold"),
    `  paper        ${paper.title} (${paper.authors}; ${paper.venue} ${paper.year}${arxiv})`,
    `  claim        ${claim}`,
    `  actions      ${Object.keys(actions).join(", ")}`,
    ...checkpoints.map((c) => `  checkpoint   ${c.name}: ${c.about} (${c.file})`),
  ].join("\n");
}

export const systems: HelpfulCommand = {
  meta: { name: "systems", description: "Lists the systems, their papers, actions and checkpoints." },
  args: SYSTEMS_OPTIONS,
  examples: ["tweedie systems", "tweedie systems --json"],
  run({ rawArgs }) {
    const json = readOptions(rawArgs, SYSTEMS_OPTIONS).values.get("json") === true;
    for (const system of SYSTEMS) console.log(json ? line(system) : describe(system));
  },
};
