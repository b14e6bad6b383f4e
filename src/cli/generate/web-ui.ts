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
  ["beta", "Beta"],
  ["model", "Uniform"],
];

/** What the web UI's "Automatic" means for samplers that prefer other levels than the model's (sd_samplers_kdiffusion). */
const AUTOMATIC: Readonly<Record<string, string>> = {
  "dpmpp-2m": "karras",
  "dpmpp-sde": "karras",
  "dpmpp-2s-ancestral": "karras",
  "dpmpp-2m-sde": "exponential",
  "dpmpp-3m-sde": "exponential",
};

const lower = (text: string): string => text.toLowerCase();

/** Names for the web UI's fields; a sampler that it does not have keeps our name. */
export function webUiSampling(sampler: string, schedule: string): WebUiSampling {
  const automatic = schedule === "model" && AUTOMATIC[sampler] === undefined;
  return {
    sampler: SAMPLERS.find(([ours]) => ours === sampler)?.[1] ?? sampler,
    schedule: automatic ? "Automatic" : (SCHEDULES.find(([ours]) => ours === schedule)?.[1] ?? schedule),
  };
}

interface Sampling {
  readonly sampler: string;
  readonly schedule?: string;
  /** Name of a schedule that has no counterpart here. */
  readonly unknown?: string;
}

/** Our sampler and schedule; older pictures have the schedule behind the sampler: "DPM++ 2M Karras". */
function ourSampling(sampler: string, schedule: string | undefined): Sampling {
  const behind = SCHEDULES.find(([, theirs]) => lower(sampler).endsWith(` ${lower(theirs)}`));
  const bare = behind ? sampler.slice(0, -behind[1].length - 1) : sampler;
  const found = SAMPLERS.find(([, theirs]) => lower(theirs) === lower(bare));
  const ours = found?.[0] ?? lower(bare).replaceAll(" ", "-");
  if (schedule === undefined) return { sampler: ours, ...(behind && { schedule: behind[0] }) };
  if (lower(schedule) === "automatic") return { sampler: ours, schedule: AUTOMATIC[ours] ?? "model" };
  const named = SCHEDULES.find(([, theirs]) => lower(theirs) === lower(schedule))?.[0];
  return { sampler: ours, ...(named ? { schedule: named } : { unknown: schedule }) };
}

/** A sampler's name as it may be typed: ours, or the web UI's. */
export const ourSampler = (name: string): string =>
  SAMPLERS.find(([, theirs]) => lower(theirs) === lower(name))?.[0] ?? lower(name);

/** The web UI's field for the fresh noise of DDIM. */
export const ETA = "Eta DDIM";

/** Fields that are used, or that say nothing of the pixels. */
const UNDERSTOOD: ReadonlySet<string> = new Set([
  ...["Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Clip skip", "RNG"],
  ...["Model", "Model hash", "VAE", "VAE hash", "Version", "User", "Lora hashes", "Hashes"],
]);

/** What a prompt may hold that is no text to the web UI. */
const IN_PROMPTS: readonly (readonly [RegExp, string])[] = [
  [/<(?:lora|lyco|hypernet):[^<>]*>/, "adapters in angle brackets (give them with --lora)"],
  [/\[[^[\]:]*:(?:[^[\]:]*:)?\s*[\d.]+\s*\]/, "words that change while sampling, [a:b:0.5]"],
  [/\[[^[\]|]*\|/, "words that alternate, [a|b]"],
  [/\bAND\b/, "prompts joined by AND"],
];

export interface FromWebUi {
  readonly options: OptionValues;
  /** What the web UI did and cannot be repeated here. */
  readonly warnings: readonly string[];
}

/**
 * Options that repeat what the web UI was asked for, and what of it has no counterpart here. The web UI splits long
 * prompts, and draws noise as PyTorch does on a GPU unless its text says otherwise. The model has to be named.
 */
export function fromWebUiFields({ prompt, negative, fields }: GenerationParameters): FromWebUi {
  const { sampler, schedule, unknown } = ourSampling(
    fields.get("Sampler") ?? "",
    fields.get("Schedule type"),
  );
  const clipSkip = Number(fields.get("Clip skip") ?? 1);
  const rng = lower(fields.get("RNG") ?? "gpu");
  const found: Record<string, string | undefined> = {
    prompt,
    negative,
    steps: fields.get("Steps"),
    sampler: sampler || undefined,
    schedule,
    eta: sampler === "ddim" ? fields.get(ETA) : undefined,
    guidance: fields.get("CFG scale"),
    seed: fields.get("Seed"),
    size: fields.get("Size"),
    "clip-skip": Number.isInteger(clipSkip) && clipSkip > 1 ? String(clipSkip - 1) : undefined,
    rng: rng === "cpu" ? "torch-cpu" : rng === "philox" ? "philox" : "torch-cuda",
  };
  const texts = Object.entries(found).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const lost = [
    ...(unknown === undefined ? [] : [`Schedule type: ${unknown}`]),
    ...[...fields]
      .filter(([name]) => !UNDERSTOOD.has(name) && !(name === ETA && sampler === "ddim"))
      .map(([name, value]) => `${name}: ${value}`),
    ...IN_PROMPTS.filter(([pattern]) => pattern.test(`${prompt}\n${negative}`)).map(([, what]) => what),
  ];
  return {
    options: { ...Object.fromEntries(texts.map(([name, value]) => [name, [value]])), "long-prompt": true },
    warnings: lost.map((what) => `the web UI's picture used what has no counterpart here: ${what}`),
  };
}
