/** What `tweedie reproduce umd` can measure: the claim, and the strip of ablations. */
import { ArgumentError } from "../../errors.ts";
import { listed } from "../options.ts";
import { ABLATION, ablationTable, ablationVerdicts } from "./ablation.ts";
import { type ExperimentOptions, VARIANTS, type Variant } from "./experiment.ts";
import type { ReproduceActionOptions } from "./options.ts";
import { claimTable, verdicts } from "./tables.ts";

/** What is compared, and how it is judged. */
export interface Study {
  readonly variants: readonly Variant[];
  /** The option that asks for it. */
  readonly flag: string;
  readonly kinds: readonly ExperimentOptions["equal"][];
  /** What names of files begin with. */
  readonly file: (equal: string) => string;
  readonly title: string;
  readonly table: typeof claimTable;
  readonly verdicts: typeof verdicts;
}

/** UMD and what it is compared with. Throws `ArgumentError` for unknown names. */
export function claim({ variants: given, equal }: ReproduceActionOptions): Study {
  const names = listed(given).map((name) => name.toLowerCase());
  const known = VARIANTS.map(({ name }) => name.toLowerCase());
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new ArgumentError(
      `UMD: unknown variant "${unknown}"; known are ${VARIANTS.map((v) => v.name).join(", ")}`,
    );
  const variants = VARIANTS.filter(({ name }) => ["umd", "dit", ...names].includes(name.toLowerCase()));
  return {
    variants,
    flag: `--variants ${variants.map((v) => v.name).join(",")}`,
    kinds: equal === "both" ? ["images", "flops"] : [equal],
    file: (kind) => `equal-${kind}`,
    title: "",
    table: claimTable,
    verdicts,
  };
}

/** Other ratios of the mixture, and class tokens from zero. */
export const strip = ({ equal }: ReproduceActionOptions): Study => ({
  variants: ABLATION,
  flag: "--ablation",
  kinds: [equal === "flops" ? "flops" : "images"],
  file: () => "ablation",
  title: "ablations, ",
  table: ablationTable,
  verdicts: ablationVerdicts,
});
