import type { Config } from "../components.ts";
import type { WeightSource } from "../weights.ts";

/** A network of a file under the names that it has here. Closing the weights leaves the file open. */
export interface OriginalNetwork {
  readonly className: string;
  readonly config: Config;
  readonly weights: WeightSource;
  /** Names of the file that belong nowhere. */
  readonly unknown: readonly string[];
}
