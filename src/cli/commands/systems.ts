/** `tweedie systems`: what there is. */
import { defineCommand } from "citty";
import { SYSTEMS } from "../../systems/index.ts";

export const systems = defineCommand({
  meta: { name: "systems", description: "lists the systems, their papers, actions and checkpoints" },
  run() {
    for (const { name, title, paper, claim, actions, checkpoints } of SYSTEMS) {
      console.log(`${name}: ${title}`);
      const arxiv = paper.arxiv ? `, arXiv ${paper.arxiv}` : "";
      console.log(`  paper        ${paper.title} (${paper.authors}; ${paper.venue} ${paper.year}${arxiv})`);
      console.log(`  claim        ${claim}`);
      console.log(`  actions      ${Object.keys(actions).join(", ")}`);
      for (const { name: model, about, file } of checkpoints)
        console.log(`  checkpoint   ${model}: ${about} (${file})`);
    }
  },
});
