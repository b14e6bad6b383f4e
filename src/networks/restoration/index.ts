/** Networks that restore pictures [N, C, H, W] in [0, 1], by name. */
import { ArgumentError } from "../../errors.ts";
import type { Module, Rng } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import { DnCNN, type DnCNNConfig } from "./dncnn.ts";
import { NAFNet, type NAFNetConfig } from "./nafnet.ts";
import { PReNet, type PReNetConfig } from "./prenet.ts";
import { RestorationUNet, type RestorationUNetConfig } from "./unet.ts";

export * from "./dncnn.ts";
export * from "./nafnet.ts";
export * from "./prenet.ts";
export * from "./unet.ts";

/** Any network that restores. */
export interface Restorer extends Module {
  readonly channels: number;
  /** Height and width are multiples of this. */
  readonly sizeFactor: number;
  /** Pixels to each side that a pixel depends on: so far from its borders a tile is as the whole. */
  readonly reach: number;
  /** The restored picture, not clipped. // [N, C, H, W] */
  restore(y: Tensor): Tensor;
}

/** What a restoring network is: its name and its sizes. */
export type RestorerConfig =
  | ({ readonly network: "unet" } & RestorationUNetConfig)
  | ({ readonly network: "nafnet" } & NAFNetConfig)
  | ({ readonly network: "dncnn" } & DnCNNConfig)
  | ({ readonly network: "prenet" } & PReNetConfig);

/** Restoration networks by name. */
export const RESTORERS = ["unet", "nafnet", "dncnn", "prenet"] as const;

/** A network by its configuration. @throws ArgumentError for an unknown name or impossible sizes */
export function createRestorer(config: RestorerConfig, rng: Rng): RestorationUNet | NAFNet | DnCNN | PReNet {
  switch (config.network) {
    case "unet":
      return new RestorationUNet(config, rng);
    case "nafnet":
      return new NAFNet(config, rng);
    case "dncnn":
      return new DnCNN(config, rng);
    case "prenet":
      return new PReNet(config, rng);
  }
  throw new ArgumentError(
    `expected one of the networks ${RESTORERS.join(", ")}, got "${(config as { network: string }).network}"`,
  );
}

/** The configuration of a network that was created here. @throws ArgumentError for any other */
export function restorerConfig(net: Restorer): RestorerConfig {
  if (net instanceof RestorationUNet) return { network: "unet", ...net.config };
  if (net instanceof NAFNet) return { network: "nafnet", ...net.config };
  if (net instanceof DnCNN) return { network: "dncnn", ...net.config };
  if (net instanceof PReNet) return { network: "prenet", ...net.config };
  throw new ArgumentError(
    `expected one of the networks ${RESTORERS.join(", ")}, got ${net.constructor.name}`,
  );
}
