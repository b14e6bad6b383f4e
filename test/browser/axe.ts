/** What axe-core finds wrong for people who cannot see, hear or point. */
import axe from "axe-core";
import type { Page } from "playwright-core";

/** Rules that a page breaks, each with the elements that do. */
export async function accessFaults(page: Page): Promise<string[]> {
  await page.evaluate(axe.source); // not a script element: the page's own policy would refuse that
  return page.evaluate(async () => {
    const { violations } = await (window as unknown as { axe: typeof axe }).axe.run(document);
    return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}`));
  });
}
