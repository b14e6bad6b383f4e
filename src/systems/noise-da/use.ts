/** Restored pictures: the door for other programs, the graph for pages, and pictures to try. */

import type { Picture } from "../../io/index.ts";
import { restoringSystem } from "../restoring-options.ts";
import { degradedPicture, exportRestorer } from "../restoring-page.ts";
import { DOMAINS, type DomainName } from "./domains.ts";
import { loadAnyRestorer } from "./official.ts";
import { CHECKPOINTS } from "./options.ts";

export { openRestoring, type RestoreOptions, type Restoring } from "../restoring.ts";

/** How the networks of Noise-DA are opened: ours, those of other systems that restore, and the official layout. */
export const RESTORING = restoringSystem("noise-da", "Noise-DA", CHECKPOINTS, loadAnyRestorer);

/** A checkpoint's file as a graph for pages, see `exportRestorer`. */
export const buildInPage = async (checkpoint: string, size: number): Promise<Uint8Array> =>
  exportRestorer((await loadAnyRestorer(checkpoint)).model, size, "noise-da");

/** Our own test picture `index` as a domain's real pictures are. */
export const realSample = (domain: DomainName, index: number, size = 192): Promise<Picture> =>
  degradedPicture(DOMAINS[domain].real, domain, index, size);
