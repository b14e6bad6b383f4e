/**
 * A declared system as a tool. Options that are paths never come from the page: pictures are uploads, checkpoints are
 * chosen by name, folders are those that the studio was started with, and what is written goes into the job's folder.
 */
import { extname, join, relative, sep } from "node:path";
import { z } from "zod";
import { ArgumentError } from "../errors.ts";
import { grid } from "../report/index.ts";
import {
  ACTIONS,
  type Action,
  type ActionEvent,
  type ActionName,
  type ActionResult,
  type OptionRole,
  type OptionSchema,
  optionSchemas,
  type System,
} from "../systems/system.ts";
import { told } from "../work.ts";
import { worldSamples } from "./samples.ts";
import type { CatalogSettings, Task, TaskContext, TaskEvent, Tool } from "./tool.ts";

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

/** As declared; otherwise a field to fill in, but for paths, which the page never sends. */
const roleOf = ({ role, path }: OptionSchema): Role =>
  role ?? (path === undefined ? "field" : "command-line");

type Roles = ReadonlyMap<string, { readonly role: Role; readonly option: OptionSchema }>;

/** The fields that the page fills in: the declaration's own types, but for paths. */
function formSchema(action: Action, roles: Roles, { folders }: CatalogSettings): z.ZodObject {
  const names = Object.keys(folders);
  const shape: Record<string, z.ZodType> = {};
  for (const [name, { role, option }] of roles) {
    if (role === "field") shape[name] = action.options.shape[name] as z.ZodType;
    if (role !== "data" || names.length === 0) continue;
    const choice = z.enum(names as [string, ...string[]]);
    const help = `${option.description}: one of the folders that the studio was started with`;
    shape[name] = (option.required ? choice : choice.optional()).describe(help);
  }
  return z.object(shape);
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

/** Options of the action: what the page filled in, and paths that we chose. */
function actionOptions(
  roles: Roles,
  context: TaskContext,
  { folders }: CatalogSettings,
): Record<string, unknown> {
  const { options, inputs, checkpoint, folder } = context;
  const given: Record<string, unknown> = { ...options };
  for (const [name, { role, option }] of roles) {
    if (role === "output") given[name] = join(folder, name + extname(String(option.default ?? "")));
    if (role === "picture" && inputs[name]) given[name] = inputs[name];
    if (role === "model" && checkpoint) given[name] = checkpoint;
    if (role === "data" && options[name] !== undefined) given[name] = folders[options[name] as string];
  }
  return given;
}

/** Paths of this machine say nothing to who looks at the page. */
const withoutPaths = (text: string, folder: string): string => text.replaceAll(folder, "the job's folder");

/** A word for the name of a file. */
const slug = (text: string): string =>
  text
    .toLowerCase()
    .replaceAll(/[^a-z0-9.]+/g, "-")
    .replaceAll(/^[-.]+|[-.]+$/g, "")
    .slice(0, 60) || "result";

/** Names of the curves: the stage, which may be one of several, and the measure. */
const curves = (stage: string, values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [`${stage} ${name}`, value]));

function taskEvent(event: ActionEvent, folder: string): TaskEvent | undefined {
  switch (event.type) {
    case "progress": {
      const { done, total, stage, note } = event;
      return { type: "progress", done, total, note: note ? `${stage}: ${note}` : stage };
    }
    case "message":
      return { type: "message", text: withoutPaths(event.text, folder) };
    case "warning":
      return { type: "message", text: `Warning: ${withoutPaths(event.text, folder)}` };
    case "picture":
      return { type: "picture", name: slug(event.name), label: event.name, picture: event.picture };
    case "figure": {
      const columns = typeof event.columns === "number" ? event.columns : event.columns.length;
      const picture = grid(event.pictures, { columns, scale: event.scale ?? 1 });
      return { type: "picture", name: slug(event.name), label: event.caption, picture };
    }
    case "preview":
      return { type: "preview", picture: event.picture };
    case "table":
      return { type: "table", name: slug(event.title), label: event.title, table: event.table };
    case "metrics":
      return { type: "metrics", step: event.step, values: curves(event.stage, event.values) };
    case "chart": // its file is told as well
      return undefined;
    case "file": {
      const inside = relative(folder, event.path);
      if (inside.startsWith("..")) return { type: "message", text: `${event.about}: ${event.path}` };
      if (/\.png$/i.test(inside)) return undefined; // it was told as a picture too
      return { type: "file", name: slug(inside.split(sep).at(-1)!), label: event.about, path: event.path };
    }
  }
}

const rounded = (value: number): number => Number(value.toPrecision(6));

async function* runAction(
  action: Action,
  options: Record<string, unknown>,
  context: TaskContext,
): AsyncGenerator<TaskEvent, void> {
  const { folder, signal } = context;
  const { data, error } = action.options.safeParse(options);
  if (error) throw new ArgumentError(z.prettifyError(error));
  const result = yield* told(action.run(data, { signal, previews: true }), (event) =>
    taskEvent(event, folder),
  );
  yield* resultEvents(result, folder);
}

/** What an action has found, for people: its summary and its numbers. */
function* resultEvents({ summary, metrics = {} }: ActionResult, folder: string): Generator<TaskEvent, void> {
  yield { type: "message", text: withoutPaths(summary, folder) };
  const rows = Object.entries(metrics)
    .filter(([name]) => !OF_FOLDERS.has(name))
    .map(([name, value]) => [name, rounded(value)] as const);
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
  const inputs = namesOf(roles, "picture").map((option) => [
    option.name,
    {
      kind: "picture",
      label: sentence(option.name),
      help: option.description,
      required: option.required,
    } as const,
  ]);
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
    run: (context) => runAction(action, actionOptions(roles, context, settings), context),
  };
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** A system as a tool. `exists` says which of its checkpoints are there. */
export function systemTool(
  system: System,
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
  const { title: paperTitle, authors, venue, year, arxiv } = paper;
  return {
    name,
    title,
    summary: `${sentence(about)}.`,
    paper: {
      title: `${authors}: ${paperTitle}. ${venue} ${year}`,
      ...(arxiv && { url: `https://arxiv.org/abs/${arxiv}` }),
    },
    claim,
    checkpoints,
    tasks: Object.fromEntries(tasks),
    samples: [...samples, ...worldSamples],
    inPage,
  };
}
