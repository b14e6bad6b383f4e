/** Values of every operation against references in plain JavaScript. */
import { describe, it } from "vitest";
import { COMPOSITES } from "./composite-cases.ts";
import { CASES } from "./op-cases.ts";
import { type OpCase, runValues } from "./op-check.ts";

for (const [name, cases] of [...Object.entries(CASES), ...Object.entries(COMPOSITES)]) {
  describe(name, () => {
    ([cases].flat() as OpCase[]).forEach((c, i) => {
      it(`gives the reference's values (${c.name ?? i})`, () => runValues(c));
    });
  });
}
