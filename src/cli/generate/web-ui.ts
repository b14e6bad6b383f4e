/** Settings in the words of AUTOMATIC1111's web UI, and back. */
import type { GenerationParameters } from "../../io/index.ts";
import type { OptionValues } from "./options.ts";

/** Sampler and noise levels as the web UI calls them. */
export interface WebUiSampling {
  readonly sampler: string;
  readonly schedule: string;
}

/** Our name and the web UI's. */
const SAMPLERS: readonly (readonly [ours: string, theirs: string])[] = [
  ["euler", "Euler"],
  ["euler-ancestral", "Euler a"],
  ["heun", "Heun"],
  ["dpm2", "DPM2"],
  ["dpm2-ancestral", "DPM2 a"],
  ["lms", "LMS"],
  ["ddim", "DDIM"],
  ["plms", "PLMS"],
  ["unipc", "UniPC"],
  ["lcm", "LCM"],
  ["dpmpp-2m", "DPM++ 2M"],
  ["dpmpp-2m-sde", "DPM++ 2M SDE"],
  ["dpmpp-sde", "DPM++ SDE"],
];

const SCHEDULES: readonly (readonly [ours: string, theirs: string])[] = [
  ["karras", "Karras"],
  ["exponential", "Exponential"],
  ["polyexponential", "Polyexponential"],
  ["beta", "Beta"],
  ["model", "Automatic"],
];

/** Names for the web UI's fields; a sampler that it does not have keeps our name. */
export function webUiSampling(sampler: string, schedule: string): WebUiSampling {
  return {
    sampler: SAMPLERS.find(([ours]) => ours === sampler)?.[1] ?? sampler,
    schedule: SCHEDULES.find(([ours]) => ours === schedule)?.[1] ?? schedule,
  };
}

const lower = (text: string): string => text.toLowerCase();

/** Our sampler and schedule; older pictures have the schedule behind the sampler: "DPM++ 2M Karras". */
function ourSampling(sampler: string, schedule: string | undefined): { sampler: string; schedule?: string } {
  const behind = SCHEDULES.find(([, theirs]) => lower(sampler).endsWith(` ${lower(theirs)}`));
  const bare = behind ? sampler.slice(0, -behind[1].length - 1) : sampler;
  const named = SCHEDULES.find(([, theirs]) => lower(theirs) === lower(schedule ?? ""))?.[0] ?? behind?.[0];
  const found = SAMPLERS.find(([, theirs]) => lower(theirs) === lower(bare));
  return { sampler: found?.[0] ?? lower(bare).replaceAll(" ", "-"), schedule: named };
}

/** A sampler's name as it may be typed: ours, or the web UI's. */
export const ourSampler = (name: string): string =>
  SAMPLERS.find(([, theirs]) => lower(theirs) === lower(name))?.[0] ?? lower(name);

/**
 * Options that repeat what the web UI was asked for, as far as it has a counterpart here. The web UI splits long
 * prompts, and draws noise as PyTorch does on a GPU unless its text says otherwise. The model has to be named.
 */
export function fromWebUiFields({ prompt, negative, fields }: GenerationParameters): OptionValues {
  const { sampler, schedule } = ourSampling(fields.get("Sampler") ?? "", fields.get("Schedule type"));
  const clipSkip = Number(fields.get("Clip skip") ?? 1);
  const rng = lower(fields.get("RNG") ?? "gpu");
  const found: Record<string, string | undefined> = {
    prompt,
    negative,
    steps: fields.get("Steps"),
    sampler: sampler || undefined,
    schedule,
    guidance: fields.get("CFG scale"),
    seed: fields.get("Seed"),
    size: fields.get("Size"),
    "clip-skip": Number.isInteger(clipSkip) && clipSkip > 1 ? String(clipSkip - 1) : undefined,
    rng: rng === "cpu" ? "torch-cpu" : rng === "philox" ? "philox" : "torch-cuda",
  };
  const texts = Object.entries(found).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...Object.fromEntries(texts.map(([name, value]) => [name, [value]])), "long-prompt": true };
}
