/** The settings stored in a picture: written for people and other programs, read back to repeat the picture. */
import { FormatError } from "../../errors.ts";
import { formatParameters, type NewPngText, parseParameters, readPngTextFile } from "../../io/index.ts";
import { UsageError } from "../errors.ts";
import { hashPath } from "./hashes.ts";
import { GENERATE_OPTIONS, type OptionName, type OptionValues } from "./options.ts";
import { type NamedFiles, RECORDED_OPTIONS } from "./request.ts";
import { ETA, fromWebUiFields, type WebUiSampling, webUiSampling } from "./web-ui.ts";

/** Keyword of the settings as JSON; `parameters` is the one of AUTOMATIC1111's web UI. */
const SETTINGS_KEY = "tweedie";
const PARAMETERS_KEY = "parameters";

/** What a picture says about how it was made. */
export interface PictureRecord {
  /** Version of tweedie that made it. */
  readonly version: string;
  /** Every option with its value, defaults included. */
  readonly options: OptionValues;
  /** Name of the sampler, also where it is the model's own. */
  readonly sampler: string;
  /** SHA-256 of the model's weights. */
  readonly modelHash?: string;
  /** SHA-256 of the files that options name, by path. */
  readonly files: Readonly<Record<string, string>>;
  /** Rows of the batch that it was computed in, and which of them it was: the last bit of a sum may depend on it. */
  readonly batch: { readonly rows: number; readonly row: number };
  /** Of AUTOMATIC1111's web UI: what it did and cannot be repeated here. */
  readonly webUi?: { readonly warnings: readonly string[] };
}

const first = (options: OptionValues, name: OptionName): string | undefined => {
  const value = options[name];
  return Array.isArray(value) ? value[0] : undefined;
};

/** The last name in a path, without its ending. */
const baseName = (path: string): string =>
  path
    .replace(/[\\/]+$/, "")
    .replace(/^.*[\\/]/, "")
    .replace(/\.safetensors$/, "");

/** The fields of the web UI's `parameters` text, in its order and with its names. */
function webUiFields({ options, modelHash, version, sampler: name }: PictureRecord): Map<string, string> {
  const of = (name: OptionName): string | undefined => first(options, name);
  const { sampler, schedule }: WebUiSampling = webUiSampling(name, of("schedule") ?? "model");
  const clipSkip = Number(of("clip-skip") ?? 0);
  const [rng, vae] = [of("rng"), of("vae")];
  const fields: [string, string | undefined][] = [
    ["Steps", of("steps")],
    ["Sampler", sampler],
    ["Schedule type", schedule],
    [ETA, name === "ddim" && Number(of("eta") ?? 0) > 0 ? of("eta") : undefined],
    ["CFG scale", of("guidance")],
    ["Seed", of("seed")],
    ["Size", of("size")],
    ["Model hash", modelHash?.slice(0, 10)],
    ["Model", baseName(of("model") ?? "")],
    ["VAE", vae === undefined ? undefined : baseName(vae)],
    ["Denoising strength", of("init-image") === undefined ? undefined : of("strength")],
    ["Clip skip", clipSkip > 0 ? String(clipSkip + 1) : undefined],
    ["RNG", rng === "torch-cpu" ? "CPU" : rng === "torch-cuda" ? undefined : rng],
    ["Version", `tweedie ${version}`],
  ];
  return new Map(fields.filter((field): field is [string, string] => field[1] !== undefined));
}

/** The text chunks of a picture. */
export function recordTexts(record: PictureRecord): NewPngText[] {
  const { options } = record;
  const parameters = formatParameters({
    prompt: first(options, "prompt") ?? "",
    negative: first(options, "negative") ?? "",
    fields: webUiFields(record),
  });
  const settings = JSON.stringify(record);
  return [
    { keyword: PARAMETERS_KEY, text: parameters },
    { keyword: SETTINGS_KEY, text: settings, utf8: true },
  ];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Options of a record, which anyone may have written: only those that pictures carry, of the right kinds. */
function checkedOptions(value: unknown, source: string): OptionValues {
  if (!isObject(value)) throw new FormatError(`${source}: its settings name no options`);
  const entries = RECORDED_OPTIONS.filter((name) => Object.hasOwn(value, name)).map((name) => {
    const isSwitch = GENERATE_OPTIONS[name].type === "boolean";
    const given = value[name];
    const fits = isSwitch
      ? typeof given === "boolean"
      : Array.isArray(given) && given.every((item) => typeof item === "string");
    if (!fits) throw new FormatError(`${source}: its setting "${name}" is malformed`);
    return [name, given] as const;
  });
  return Object.fromEntries(entries) as OptionValues;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function checkedBatch(value: unknown): PictureRecord["batch"] {
  const { rows, row } = isObject(value) ? value : {};
  return isCount(rows) && isCount(row) && row < rows && rows <= 1024 ? { rows, row } : { rows: 1, row: 0 };
}

function parseRecord(text: string, source: string): PictureRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FormatError(`${source}: its settings are no JSON`, { cause: error });
  }
  if (!isObject(value)) throw new FormatError(`${source}: its settings are no JSON object`);
  const { version, options, sampler, modelHash, files, batch } = value;
  return {
    version: typeof version === "string" ? version : "unknown",
    options: checkedOptions(options, source),
    sampler: typeof sampler === "string" ? sampler : "unknown",
    modelHash: typeof modelHash === "string" ? modelHash : undefined,
    files: isObject(files)
      ? Object.fromEntries(
          Object.entries(files).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
        )
      : {},
    batch: checkedBatch(batch),
  };
}

/**
 * What a picture says about how it was made: its own record, or what AUTOMATIC1111's web UI wrote.
 *
 * @throws {FormatError} for a damaged or malformed file, {UsageError} when it carries no settings
 */
export async function readRecord(path: string): Promise<PictureRecord> {
  const texts = await readPngTextFile(path);
  const own = texts.find(({ keyword }) => keyword === SETTINGS_KEY);
  if (own) return parseRecord(own.text, path);
  const parameters = texts.find(({ keyword }) => keyword === PARAMETERS_KEY);
  if (!parameters) throw new UsageError(`--from ${path}: the picture carries no settings`);
  const { options, warnings } = fromWebUiFields(parseParameters(parameters.text));
  return {
    version: "web UI",
    options,
    sampler: first(options, "sampler") ?? "unknown",
    files: {},
    batch: { rows: 1, row: 0 },
    webUi: { warnings },
  };
}

/**
 * The files that the picture was made from must be what they were, unless the command line names others.
 *
 * @throws {UsageError} when one has changed
 */
export async function checkFiles(
  { files }: PictureRecord,
  named: NamedFiles,
  given: OptionValues,
  source: string,
): Promise<void> {
  for (const [option, paths] of Object.entries(named)) {
    if (Object.hasOwn(given, option)) continue;
    for (const path of paths) {
      const expected = files[path];
      if (expected === undefined || (await hashPath(path)) === expected) continue;
      throw new UsageError(`--from ${source}: ${path} has changed since; name a file with --${option}`);
    }
  }
}
