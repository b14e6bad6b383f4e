/** All systems, and what they are declared with. A system's own code is imported from its folder. */
import { anycontrol } from "./anycontrol/system.ts";
import { decomp } from "./decomp/system.ts";
import { diffloss } from "./diffloss/system.ts";
import { ncpDpo } from "./ncp-dpo/system.ts";
import { noiseDa } from "./noise-da/system.ts";
import { qDiT } from "./q-dit/system.ts";
import { sdseg } from "./sdseg/system.ts";
import type { System } from "./system.ts";
import { umd } from "./umd/system.ts";

export * from "./system.ts";
export * from "./tour.ts";

/** In the order of their issues. */
export const SYSTEMS: readonly System[] = [
  ...[sdseg, umd, qDiT, decomp, diffloss],
  ...[noiseDa, anycontrol, ncpDpo],
];

/** A system by name. */
export const systemNamed = (name: string): System | undefined =>
  SYSTEMS.find((system) => system.name === name);
