/** Restored pictures: the door for other programs, and the graph for pages. */
import { restorerFile } from "../../training/index.ts";
import { exportRestorer } from "../restoring-page.ts";

export { openRestoring, type RestoreOptions, type Restoring } from "../restoring.ts";

/** A checkpoint's file as a graph for pages, see `exportRestorer`. */
export const buildInPage = async (checkpoint: string, size: number): Promise<Uint8Array> =>
  exportRestorer((await restorerFile.load(checkpoint)).model, size, "diffloss");
