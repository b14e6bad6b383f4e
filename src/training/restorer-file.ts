/** The file of a network that restores, and the sizes that `train` makes. */
import { createRestorer, type Restorer, type RestorerConfig, restorerConfig } from "../networks/index.ts";
import { blankRng } from "../nn/index.ts";
import { modelFile } from "./model-file.ts";

/** What files keep beside weights: on what, how long and by which command the network was trained. */
export type RestorerNotes = Readonly<Record<string, string>>;

/** Checkpoints of restoring networks, of every system alike. */
export const restorerFile = modelFile<Restorer, RestorerNotes>({
  format: "tweedie.restorer",
  name: "restoration network",
  describe: (net) => ({ config: JSON.stringify(restorerConfig(net)) }),
  blank: (field) => createRestorer(JSON.parse(field("config") ?? "") as RestorerConfig, blankRng),
});

/** Sizes of networks that `train` makes, a few hundred thousand parameters each. */
export const RESTORER_SIZES = {
  unet: { network: "unet", base: 24, depth: 3 },
  nafnet: { network: "nafnet", width: 16, encoder: [1, 1, 2], middle: 2, decoder: [1, 1, 1] },
  dncnn: { network: "dncnn", width: 48, depth: 12 },
} as const satisfies Readonly<Record<string, RestorerConfig>>;
