/** Options that several systems have, and short ways to declare the others under the headings that all share. */
import { z } from "zod";
import { CAMERA_PATHS } from "../data/index.ts";
import { ArgumentError } from "../errors.ts";
import type { When } from "./effect.ts";
import {
  type Checkpoint,
  type Draws,
  hinted,
  type OptionHints,
  type OptionRole,
  type PathKind,
} from "./system.ts";

/** Declares options with these hints: their type, what they are about, what stands for their value in help texts. */
const under =
  (hints: OptionHints) =>
  <T extends z.ZodType>(type: T, about: string, hint = hints.hint): T =>
    hinted(type.describe(about), { ...hints, ...(hint !== undefined && { hint }) });

/** Options that count only beside certain values of others. */
export const beside = <Shape extends Readonly<Record<string, z.ZodType>>>(when: When, shape: Shape): Shape =>
  Object.fromEntries(Object.entries(shape).map(([name, type]) => [name, hinted(type, { when })])) as Shape;

const [DATA, MODEL, HOW, OUTPUT, FOLDERS] = ["Data", "Model", "How", "Output", "Folders"].map((group) => ({
  group,
})) as [OptionHints, OptionHints, OptionHints, OptionHints, OptionHints];

/** An option about data; `hint` stands for its value in help texts. */
export const data = under(DATA);
/** An option about the model. */
export const model = under(MODEL);
/** An option about how the work is done. */
export const how = under(HOW);

export const seed = how(z.int().min(0).default(0), "seed of all randomness", "S");
const forCommandLine = under({ ...HOW, role: "command-line" });
export const threads = forCommandLine(
  z.int().min(1).max(256).optional(),
  "processor threads (default: what doctor says)",
  "N",
);
export const limit = data(z.int().min(1).optional(), "only the first so many pictures", "N");

const share = z
  .string()
  .regex(/^[1-9]\d*\/[1-9]\d*$/, "expected I/N, such as 1/4")
  .optional();
/** A share of a study, for several machines. */
export const studyShard = forCommandLine(
  share,
  "only part I of N of the trainings and measurements; N processes share the work folder",
  "I/N",
);
const inFolders = under({ ...FOLDERS, role: "command-line" });
/** Options of jobs over a folder of pictures (`batch.ts`). */
export const batch = {
  shard: inFolders(share, "only part I of N of the folder, so that N machines share it", "I/N"),
  force: inFolders(z.boolean().default(false), "makes again what is done already"),
};

/** How many of something, with a default. */
export const count = (standard: number, about: string, max = 10_000_000) =>
  how(z.int().min(1).max(max).default(standard), about, "N");

const inFolder = under({ ...DATA, hint: "DIR", role: "data", path: "folder" });
/** A folder to read from, for systems that can do without. */
export const dataFolder = (about: string) => inFolder(z.string().optional(), about);
/** A folder to read from that must be given. */
export const neededDataFolder = (about: string) => inFolder(z.string(), about);

const inFile = under({ ...MODEL, hint: "FILE", path: "file", role: "command-line" });
/** A file with published weights to begin with. */
export const weightsFile = (about: string) => inFile(z.string().optional(), about);
/** A checkpoint of the system itself to begin with. */
export const startingCheckpoint = (about: string) =>
  hinted(inFile(z.string().optional(), about), { role: "model" });

const brought = (role: OptionRole, hint = "FILE", path: PathKind = "file") =>
  under({ ...DATA, hint, role, path });
/** A picture, or a folder of them, that must be given. */
export const pictures = (about: string) =>
  brought("picture", "FILE|DIR", "file-or-folder")(z.string(), about);
/** A picture, or a folder of them, that may be given. */
export const optionalPictures = (about: string) =>
  brought("picture", "FILE|DIR", "file-or-folder")(z.string().optional(), about);
/** Several pictures: the option is given once for each. */
export const severalPictures = (about: string) => brought("pictures")(z.array(z.string()).min(1), about);
/** A volume: NIfTI, or a TIFF of many pages. */
export const volume = (about: string) => brought("volume")(z.string(), about);
/** Any other file that must be given. */
export const givenFile = (about: string) => brought("file")(z.string(), about);
/** Answers to "which of two pictures?": a table of pairs, see `readChoices`. */
export const choices = (about: string) => brought("choices", "CSV")(z.string(), about);
/** The same where it may be left out; `draws` says which action draws pictures to choose from. */
export const optionalChoices = (about: string, draws: Draws) =>
  hinted(brought("choices", "FILE")(z.string().optional(), about), { draws });
/** Pictures that control another one, each of one of these types: `TYPE=FILE`, see `readControls`. */
export const controlMaps = (types: readonly string[], about: string) =>
  hinted(brought("controls", "TYPE=FILE")(z.array(z.string()).default([]), `${about}: ${types.join(", ")}`), {
    names: types,
  });

/** A text of several lines. */
export const text = (about: string) =>
  under({ ...DATA, hint: "TEXT", role: "text" })(z.string().max(10_000), about);

/** The path of a camera: the name of one that is drawn, or a `transforms.json`, see `readCameraPath`. */
export const cameraPath = (about: string) =>
  under({ ...DATA, hint: "NAME|FILE", role: "camera-path", names: CAMERA_PATHS })(
    z.string().default(CAMERA_PATHS[0]),
    `${about}: ${CAMERA_PATHS.join(", ")}, or a transforms.json`,
  );

/** A model by the name of a checkpoint that ships, the first by default, or by its file. */
export function modelNamed(checkpoints: readonly Checkpoint[], about?: string) {
  const names = checkpoints.map(({ name }) => name);
  return under({ ...MODEL, hint: "NAME|FILE", role: "model", path: "file", names })(
    z.string().default(names[0]!),
    about ?? `${names.join(", ")}, or a checkpoint file`,
  );
}

const written = (role: OptionRole, hint: string) => under({ ...OUTPUT, hint, role, path: "output" });
/** A folder to write into. */
export const outFolder = (standard: string, about: string) =>
  written("output", "DIR")(z.string().default(standard), about);
/** The folder in which the command line keeps all results that an action tells. */
export const results = (standard: string) =>
  written("results", "DIR")(z.string().default(standard), "folder for results");
/** Where a training keeps its state. */
export const runFolder = (standard: string) =>
  outFolder(standard, "run folder; a run that was stopped goes on");
/** Where a reproduction keeps what it has trained and measured. */
export const workFolder = (standard: string, about = "runs and models; what is there is not redone") =>
  outFolder(standard, about);
/** A file to write. */
export const outFile = (standard: string, about: string) =>
  written("output", "FILE")(z.string().default(standard), about);
/** A file to write when it is asked for. */
export const optionalOutFile = (about: string) => written("output", "FILE")(z.string().optional(), about);

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
