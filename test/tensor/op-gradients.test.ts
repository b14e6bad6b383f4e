/** First and second derivatives of every operation against central differences. */
import { describe, it } from "vitest";
import { COMPOSITES } from "./composite-cases.ts";
import { CASES } from "./op-cases.ts";
import { type OpCase, runGradients } from "./op-check.ts";

for (const [name, cases] of [...Object.entries(CASES), ...Object.entries(COMPOSITES)]) {
  const smooth = ([cases].flat() as OpCase[]).filter((c) => c.order !== 0);
  if (smooth.length === 0) continue;
  describe(name, () => {
    smooth.forEach((c, i) => {
      it(`has the derivatives of its values (${c.name ?? i})`, () => runGradients(c), 30_000);
    });
  });
}
