/**
 * A declared system as a tool. Options that are paths never come from the page: pictures are uploads, checkpoints are
 * chosen by name, folders are those that the studio was started with, and what is written goes into the job's folder.
 */
import { basename, extname, join, relative, sep } from "node:path";
import { z } from "zod";
import { ArgumentError } from "../errors.ts";
import { slug } from "../io/file-names.ts";
import { writeFileAtomic } from "../io/index.ts";
import { grid } from "../report/index.ts";
import { CHOICE_COLUMNS } from "../systems/inputs.ts";
import {
  ACTIONS,
  type Action,
  type ActionName,
  type ActionResult,
  INPUT_ROLES,
  type InputRole,
  type OptionRole,
  type OptionSchema,
  optionSchemas,
  type System,
} from "../systems/system.ts";
import { told, type WorkEvent } from "../work.ts";
import { worldSamples } from "./samples.ts";
import type { CatalogSettings, GivenPath, Task, TaskContext, TaskEvent, TaskInput, Tool } from "./tool.ts";

const LABELS: Readonly<Record<ActionName, string>> = {
  run: "Run",
  train: "Train",
  evaluate: "Evaluate",
  reproduce: "Reproduce",
};
/** What newcomers do first comes first. */
const ORDER: readonly ActionName[] = ["run", "train", "evaluate", "reproduce"];
/** They go on where they were stopped when they are called again with the same folder. */
const RESUMABLE: ReadonlySet<ActionName> = new Set(["train", "reproduce"]);

/** Measures of work over a folder, which say nothing of one picture; the time is with the job. */
const OF_FOLDERS: ReadonlySet<string> = new Set(["pictures", "kept", "broken", "seconds"]);

/** What becomes of an option in the page. */
type Role = OptionRole | "field";

const isInput = (role: Role): role is InputRole => (INPUT_ROLES as readonly string[]).includes(role);

/** As declared; otherwise a field to fill in, but for paths, which the page never sends. */
const roleOf = ({ role, path }: OptionSchema): Role =>
  role ?? (path === undefined ? "field" : "command-line");

type Roles = ReadonlyMap<string, { readonly role: Role; readonly option: OptionSchema }>;

/** The fields that the page fills in: the declaration's own types, but for paths. */
function formSchema(action: Action, roles: Roles, { folders }: CatalogSettings): z.ZodObject {
  const names = Object.keys(folders);
  const shape: Record<string, z.ZodType> = {};
  for (const [name, { role, option }] of roles) {
    if (role === "field" || role === "text") shape[name] = action.options.shape[name] as z.ZodType;
    if (role === "camera-path") shape[name] = pathChoice(option);
    if (role !== "data" || names.length === 0) continue;
    const choice = z.enum(names as [string, ...string[]]);
    const help = `${option.description}: one of the folders that the studio was started with`;
    shape[name] = (option.required ? choice : choice.optional()).describe(help);
  }
  return z.object(shape);
}

/** The paths that are drawn; files of cameras are for the command line. */
function pathChoice({ names = [], description, required, default: standard }: OptionSchema): z.ZodType {
  const choice = z.enum(names as [string, ...string[]]).describe(description.replace(/, or [^,]*$/, ""));
  if (standard !== undefined) return choice.default(standard as string);
  return required ? choice : choice.optional();
}

/** What is missing for options that must be given and cannot be in the page. */
function missing(roles: Roles, { folders }: CatalogSettings): string | undefined {
  for (const { role, option } of roles.values()) {
    if (!option.required) continue;
    if (role === "data" && Object.keys(folders).length === 0)
      return `This needs data: ${option.description}. Start the studio with --folder NAME=DIR.`;
    if (role === "command-line") return `This needs ${option.name}, which only the command line takes.`;
  }
  return undefined;
}

/** The option that a picture's place in the form stands for, and whether it must be filled. */
const namesOf = (roles: Roles, wanted: Role): OptionSchema[] =>
  [...roles.values()].filter(({ role }) => role === wanted).map(({ option }) => option);

/** What was brought, in the form that it has on the command line. */
async function broughtAs(role: InputRole, files: readonly GivenPath[], table: string): Promise<unknown> {
  if (role === "pictures") return files.map(({ path }) => path);
  if (role === "controls") return files.map(({ path, type }) => `${type}=${path}`);
  if (role !== "choices") return files[0]!.path;
  const pairs = Array.from({ length: files.length / 2 }, (_, i) => [
    files[2 * i]!.path,
    files[2 * i + 1]!.path,
  ]);
  const quoted = (cell: string): string => `"${cell.replaceAll('"', '""')}"`;
  const lines = [CHOICE_COLUMNS, ...pairs].map((row) => `${row.map(quoted).join(",")}\n`);
  await writeFileAtomic(table, Buffer.from(lines.join("")));
  return table;
}

/** Options of the action: what the page filled in, and paths that we chose. */
async function actionOptions(
  roles: Roles,
  context: TaskContext,
  { folders }: CatalogSettings,
): Promise<Record<string, unknown>> {
  const { options, inputs, checkpoint, folder } = context;
  const given: Record<string, unknown> = { ...options };
  for (const [name, { role, option }] of roles) {
    if (role === "output" || role === "results")
      given[name] = join(folder, name + extname(String(option.default ?? "")));
    const files = inputs[name];
    if (isInput(role) && files) given[name] = await broughtAs(role, files, join(folder, `${name}.csv`));
    if (role === "model" && checkpoint) given[name] = checkpoint;
    if (role === "data" && options[name] !== undefined) given[name] = folders[options[name] as string];
  }
  return given;
}

/** Paths of this machine say nothing to who looks at the page: files by their names. */
function withoutPaths(text: string, { folder, checkpoint, inputs }: TaskContext): string {
  const files = [...Object.values(inputs).flat(), ...(checkpoint ? [{ path: checkpoint }] : [])];
  const named = files.reduce(
    (told, { path, name }: GivenPath) => told.replaceAll(path, name ?? basename(path, extname(path))),
    text,
  );
  return named.replaceAll(folder, "the job's folder");
}

/** `stepMilliseconds` as "step milliseconds". */
const words = (name: string): string => name.replaceAll(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();

/** Names of the curves: the stage, which may be one of several, and the measure. */
const curves = (stage: string, values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [`${stage} ${name}`, value]));

function taskEvent(event: WorkEvent, context: TaskContext): TaskEvent | undefined {
  const { folder } = context;
  switch (event.type) {
    case "progress": {
      const { done, total, stage, note, secondsLeft } = event;
      return {
        ...{ type: "progress", done, total, note: note ? `${stage}: ${note}` : stage },
        ...(secondsLeft !== undefined && { secondsLeft }),
      };
    }
    case "message":
      return { type: "message", text: withoutPaths(event.text, context) };
    case "warning":
      return { type: "message", text: `Warning: ${withoutPaths(event.text, context)}` };
    case "picture":
      return { type: "picture", name: slug(event.name), label: event.name, picture: event.picture };
    case "figure": {
      const { name, caption: label, pictures, columns, rows } = event;
      if (typeof columns !== "number" || rows)
        return { type: "grid", name: slug(name), label, pictures, columns, ...(rows && { rows }) };
      const picture = grid(pictures, { columns, scale: event.scale ?? 1 });
      return { type: "picture", name: slug(name), label, picture };
    }
    case "album": {
      const { caption: label, ...album } = event;
      return { ...album, name: slug(album.name), label };
    }
    case "preview":
      return { type: "preview", picture: event.picture };
    case "table":
      return {
        type: "table",
        name: slug(withoutPaths(event.title, context)),
        label: withoutPaths(event.title, context),
        table: event.table,
      };
    case "metrics":
      return { type: "metrics", step: event.step, values: curves(event.stage, event.values) };
    case "chart":
      return { type: "chart", name: slug(event.name), label: event.caption, svg: event.svg };
    case "file": {
      const inside = relative(folder, event.path);
      if (inside.startsWith("..")) return { type: "message", text: `${event.about}: ${event.path}` };
      if (/\.(?:png|svg)$/i.test(inside)) return undefined; // it was told as a picture or chart too
      return { type: "file", name: slug(inside.split(sep).at(-1)!), label: event.about, path: event.path };
    }
  }
}

const rounded = (value: number): number => Number(value.toPrecision(6));

async function* runAction(
  action: Action,
  roles: Roles,
  context: TaskContext,
  settings: CatalogSettings,
): AsyncGenerator<TaskEvent, void> {
  const { data, error } = action.options.safeParse(await actionOptions(roles, context, settings));
  if (error) throw new ArgumentError(z.prettifyError(error));
  let tables = 0;
  const result = yield* told(action.run(data, { signal: context.signal, previews: true }), (event) => {
    if (event.type === "table") tables++;
    return taskEvent(event, context);
  });
  yield { type: "message", text: withoutPaths(result.summary, context) };
  if (tables === 0) yield* measured(result); // else the action has shown its numbers
}

/** The numbers of an action that has shown no table. */
function* measured({ metrics = {} }: ActionResult): Generator<TaskEvent, void> {
  const rows = Object.entries(metrics)
    .filter(([name]) => !OF_FOLDERS.has(name))
    .map(([name, value]) => [words(name), rounded(value)] as const);
  if (rows.length > 0)
    yield {
      type: "table",
      name: "measured",
      label: "Measured",
      table: { columns: ["measure", "value"], rows },
    };
}

function taskOf(name: ActionName, action: Action, settings: CatalogSettings): Task {
  const roles: Roles = new Map(
    optionSchemas(action).map((option) => [option.name, { role: roleOf(option), option }]),
  );
  const inputs = [...roles.values()].flatMap(({ role, option }): [string, TaskInput][] => {
    if (!isInput(role)) return [];
    const { name: label, description: help, required, names } = option;
    return [[label, { kind: role, label: sentence(label), help, required, ...(names && { types: names }) }]];
  });
  const checkpoints = namesOf(roles, "model");
  return {
    label: LABELS[name],
    help: `${sentence(action.about)}.`,
    inputs: Object.fromEntries(inputs),
    options: formSchema(action, roles, settings),
    resumable: RESUMABLE.has(name),
    // A training may begin from a checkpoint, but does so only when asked.
    checkpoint:
      checkpoints.length === 0
        ? "none"
        : checkpoints.some((c) => c.required || c.default !== undefined)
          ? "needed"
          : "optional",
    unavailable: missing(roles, settings),
    run: (context) => runAction(action, roles, context, settings),
  };
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** What a tool is made of: a system, or a training that belongs to none and has no paper. */
export type Declared = Omit<System, "paper" | "claim" | "headline" | "tour"> &
  Partial<Pick<System, "paper" | "claim">>;

/** A system as a tool. `exists` says which of its checkpoints are there. */
export function systemTool(
  system: Declared,
  settings: CatalogSettings,
  { root, exists }: { root: string; exists: (file: string) => boolean },
): Tool {
  const { name, title, about, paper, claim, actions, samples = [], inPage } = system;
  const tasks = ORDER.filter((action) => ACTIONS.includes(action)).flatMap((action) =>
    actions[action] ? [[action, taskOf(action, actions[action], settings)] as const] : [],
  );
  const checkpoints = system.checkpoints
    .map((c) => ({ name: c.name, label: `${c.name}: ${c.about}`, file: join(root, c.file) }))
    .filter((c) => exists(c.file));
  return {
    name,
    title,
    summary: `${sentence(about)}.`,
    ...(paper && {
      paper: {
        title: `${paper.authors}: ${paper.title}. ${paper.venue} ${paper.year}`,
        ...(paper.arxiv && { url: `https://arxiv.org/abs/${paper.arxiv}` }),
      },
    }),
    ...(claim !== undefined && { claim }),
    checkpoints,
    tasks: Object.fromEntries(tasks),
    samples: samples.length > 0 ? samples : worldSamples,
    inPage,
  };
}
