/** Options that several systems have, and short ways to declare the others under the headings that all share. */
import { z } from "zod";
import { CAMERA_PATHS } from "../data/index.ts";
import { ArgumentError } from "../errors.ts";
import type { When } from "./effect.ts";
import { type Checkpoint, hinted, type OptionRole } from "./system.ts";

const [DATA, MODEL, HOW, OUTPUT] = ["Data", "Model", "How", "Output"];

const under =
  (group: string) =>
  <T extends z.ZodType>(type: T, about: string, hint?: string): T =>
    hinted(type.describe(about), { group, ...(hint !== undefined && { hint }) });

/** Options that count only beside certain values of others. */
export const beside = <Shape extends Readonly<Record<string, z.ZodType>>>(when: When, shape: Shape): Shape =>
  Object.fromEntries(Object.entries(shape).map(([name, type]) => [name, hinted(type, { when })])) as Shape;

/** An option about data; `hint` stands for its value in help texts. */
export const data = under(DATA);
/** An option about the model. */
export const model = under(MODEL);
/** An option about how the work is done. */
export const how = under(HOW);

export const seed = how(z.int().min(0).default(0), "seed of all randomness", "S");
export const threads = hinted(
  z.int().min(1).max(256).optional().describe("processor threads (default: what doctor says)"),
  { group: HOW, hint: "N", role: "command-line" },
);
export const limit = data(z.int().min(1).optional(), "only the first so many pictures", "N");

/** Options of jobs over a folder of pictures (`batch.ts`). */
export const batch = {
  shard: hinted(
    z
      .string()
      .regex(/^[1-9]\d*\/[1-9]\d*$/, "expected I/N, such as 1/4")
      .optional()
      .describe("only part I of N of the folder, so that N machines share it"),
    { group: "Folders", hint: "I/N", role: "command-line" },
  ),
  force: hinted(z.boolean().default(false).describe("makes again what is done already"), {
    group: "Folders",
    role: "command-line",
  }),
};

/** How many of something, with a default. */
export const count = (standard: number, about: string, max = 10_000_000) =>
  how(z.int().min(1).max(max).default(standard), about, "N");

const inFolder = <T extends z.ZodType>(type: T, about: string): T =>
  hinted(type.describe(about), { group: DATA, hint: "DIR", role: "data", path: "folder" });

/** A folder to read from, for systems that can do without. */
export const dataFolder = (about: string) => inFolder(z.string().optional(), about);
/** A folder to read from that must be given. */
export const neededDataFolder = (about: string) => inFolder(z.string(), about);

/** A file with published weights to begin with. */
export const weightsFile = (about: string) =>
  hinted(z.string().optional().describe(about), {
    group: MODEL,
    hint: "FILE",
    role: "command-line",
    path: "file",
  });

/** A checkpoint of the system itself to begin with. */
export const startingCheckpoint = (about: string) =>
  hinted(z.string().optional().describe(about), { group: MODEL, hint: "FILE", role: "model", path: "file" });

/** A picture, or a folder of them, that must be given. */
export const pictures = (about: string) =>
  hinted(z.string().describe(about), {
    group: DATA,
    hint: "FILE|DIR",
    role: "picture",
    path: "file-or-folder",
  });

const brought = <T extends z.ZodType>(type: T, about: string, role: OptionRole, hint: string): T =>
  hinted(type.describe(about), { group: DATA, hint, role, path: "file" });

/** Several pictures: the option is given once for each. */
export const severalPictures = (about: string) =>
  brought(z.array(z.string()).min(1), about, "pictures", "FILE");

/** A volume: NIfTI, or a TIFF of many pages. */
export const volume = (about: string) => brought(z.string(), about, "volume", "FILE");

/** Any other file that must be given. */
export const givenFile = (about: string) => brought(z.string(), about, "file", "FILE");

/** Answers to "which of two pictures?": a table of pairs, see `readChoices`. */
export const choices = (about: string) => brought(z.string(), about, "choices", "CSV");

/** Pictures that control another one, each of one of these types: `TYPE=FILE`, see `readControls`. */
export const controlMaps = (types: readonly string[], about: string) =>
  hinted(brought(z.array(z.string()).default([]), `${about}: ${types.join(", ")}`, "controls", "TYPE=FILE"), {
    names: types,
  });

/** A text of several lines. */
export const text = (about: string) =>
  hinted(z.string().max(10_000).describe(about), { group: DATA, hint: "TEXT", role: "text" });

/** The path of a camera: the name of one that is drawn, or a `transforms.json`, see `readCameraPath`. */
export const cameraPath = (about: string) =>
  hinted(
    z
      .string()
      .default(CAMERA_PATHS[0])
      .describe(`${about}: ${CAMERA_PATHS.join(", ")}, or a transforms.json`),
    { group: DATA, hint: "NAME|FILE", role: "camera-path", names: CAMERA_PATHS },
  );

/** A model by the name of a checkpoint that ships, the first by default, or by its file. */
export function modelNamed(checkpoints: readonly Checkpoint[], about?: string) {
  const names = checkpoints.map(({ name }) => name);
  return hinted(
    z
      .string()
      .default(names[0]!)
      .describe(about ?? `${names.join(", ")}, or a checkpoint file`),
    { group: MODEL, hint: "NAME|FILE", role: "model", path: "file", names },
  );
}

/** A folder to write into. */
export const outFolder = (standard: string, about: string) =>
  hinted(z.string().default(standard).describe(about), {
    group: OUTPUT,
    hint: "DIR",
    role: "output",
    path: "output",
  });
/** The folder in which the command line keeps all results that an action tells. */
export const results = (standard: string) =>
  hinted(z.string().default(standard).describe("folder for results"), {
    group: OUTPUT,
    hint: "DIR",
    role: "results",
    path: "output",
  });
/** Where a training keeps its state. */
export const runFolder = (standard: string) =>
  outFolder(standard, "run folder; a run that was stopped goes on");
/** Where a reproduction keeps what it has trained and measured. */
export const workFolder = (standard: string, about = "runs and models; what is there is not redone") =>
  outFolder(standard, about);

/**
 * Names in a list with commas, among those that are known and spelled as these are, whatever the capitals; `what` they name.
 *
 * @throws ArgumentError for an unknown one
 */
export function namesAmong<Name extends string>(text: string, known: readonly Name[], what: string): Name[] {
  const names = text.split(",").map((name) => {
    const found = known.find((one) => one.toLowerCase() === name.trim().toLowerCase());
    if (found !== undefined) return found;
    throw new ArgumentError(`unknown ${what} "${name.trim()}"; known are ${known.join(", ")}`);
  });
  return [...new Set(names)];
}

const toFile = <T extends z.ZodType>(type: T, about: string): T =>
  hinted(type.describe(about), { group: OUTPUT, hint: "FILE", role: "output", path: "output" });

/** A file to write. */
export const outFile = (standard: string, about: string) => toFile(z.string().default(standard), about);
/** A file to write when it is asked for. */
export const optionalOutFile = (about: string) => toFile(z.string().optional(), about);
