/** Tools as the page gets them, and requests checked against them. */
import { join } from "node:path";
import { z } from "zod";
import { CHOICE_COLUMNS } from "../../systems/inputs.ts";
import type { InputRole } from "../../systems/system.ts";
import type { FormSchema, GivenFile, JobRequest, TaskInfo, ToolInfo } from "../api-types.ts";
import type { Task, TaskInput, Tool } from "../tool.ts";
import { HttpError } from "./http-error.ts";
import type { NewJob } from "./queue.ts";
import { explainIssues } from "./route.ts";
import { artifactFile, givenFile, type JobStore } from "./store.ts";
import type { Uploads } from "./uploads.ts";

/** JSON Schema of a task's options. */
export function formOf(options: z.ZodObject): FormSchema {
  const { $schema: _, ...schema } = z.toJSONSchema(options, { io: "input", unrepresentable: "any" });
  return schema as unknown as FormSchema;
}

function taskInfo([name, task]: [string, Task]): TaskInfo {
  const { label, help, resumable, checkpoint, unavailable } = task;
  const inputs = Object.entries(task.inputs).map(([input, declared]) => ({ name: input, ...declared }));
  return { name, label, help, inputs, options: formOf(task.options), resumable, checkpoint, unavailable };
}

export function toolInfo(tool: Tool): ToolInfo {
  const { name, title, summary, paper, claim, inPage } = tool;
  const checkpoints = tool.checkpoints.map((c) => ({ name: c.name, label: c.label }));
  return {
    name,
    title,
    summary,
    paper,
    claim,
    checkpoints,
    tasks: Object.entries(tool.tasks).map(taskInfo),
    samples: tool.samples.map(({ name: sample, label, checkpoint }) => ({ name: sample, label, checkpoint })),
    ...(inPage && {
      inPage: {
        label: inPage.label,
        sizes: inPage.sizes,
        gives: inPage.gives ?? "probability",
        checkpoints: inPage.checkpoints ?? checkpoints.map((c) => c.name),
      },
    }),
  };
}

/** What the HTTP API takes for a new job of one of the tools: its form, tool by tool and task by task. */
export function jobRequestSchema(tools: readonly Tool[]): z.ZodType {
  const forms = tools.flatMap((tool) =>
    Object.entries(tool.tasks).map(([name, task]) =>
      z.object({
        tool: z.literal(tool.name),
        task: z.literal(name),
        inputs: z
          .object(
            Object.fromEntries(
              Object.entries(task.inputs).map(([input, { kind, label, required }]) => {
                const hash = z.string().describe(`${label}: hash of an uploaded ${NOUNS[kind]}`);
                const given = kind === "picture" ? hash : z.array(givenFile).describe(`${label}: ${kind}`);
                return [input, required ? given : given.optional()];
              }),
            ),
          )
          .optional(),
        options: task.options.partial().optional(),
        checkpoint: z.string().optional(),
      }),
    ),
  );
  return z.union(forms as [(typeof forms)[number], ...typeof forms]);
}

function checkedOptions(task: Task, given: unknown): Record<string, unknown> {
  const { success, data, error } = task.options.strict().safeParse(given ?? {});
  if (success) return data;
  throw new HttpError(422, explainIssues(error));
}

/** The checkpoint that a job is given: as asked, else the first where one is needed. */
async function checkedCheckpoint(
  tool: Tool,
  { checkpoint }: Task,
  given: string | undefined,
  find: FindCheckpoint,
): Promise<string | undefined> {
  if (given !== undefined) {
    if (checkpoint === "none") throw new HttpError(422, "checkpoint: this task takes none");
    if (await find(tool.name, given)) return given;
    const names = tool.checkpoints.map((c) => c.name).join(", ");
    throw new HttpError(
      422,
      `checkpoint: expected ${names ? `one of ${names}` : "one trained here"}, got "${given}"`,
    );
  }
  if (checkpoint !== "needed") return undefined;
  const first = tool.checkpoints[0]?.name;
  if (first === undefined)
    throw new HttpError(409, `${tool.title} has no trained checkpoint here yet; train one first`);
  return first;
}

/** File of a checkpoint of a tool. */
export type FindCheckpoint = (tool: string, checkpoint: string) => Promise<string | undefined>;

/** The whole name is checked: it becomes part of the name of a file. */
const TRAINED_HERE = /^([0-9a-z]{9}-[0-9a-f]{8})\.(\d{1,3})$/;

/** Finds the checkpoints that ship by their names, and those that a training has left by `job.result`. */
export const checkpointFinder =
  (tools: readonly Tool[], store: JobStore): FindCheckpoint =>
  async (name, checkpoint) => {
    const shipped = tools.find((t) => t.name === name)?.checkpoints.find((c) => c.name === checkpoint);
    if (shipped) return shipped.file;
    const [, id, index] = TRAINED_HERE.exec(checkpoint) ?? [];
    if (id === undefined) return undefined;
    const job = store.get(id);
    const artifact = job?.artifacts[Number(index)];
    if (job?.tool !== name || artifact?.kind !== "file") return undefined;
    return join(store.folder(id), artifactFile(Number(index), "file"));
  };

const NOUNS: Record<InputRole, string> = {
  ...{ picture: "picture", pictures: "picture", choices: "picture", controls: "picture" },
  ...{ volume: "volume", file: "file" },
};
const NEEDED: Record<InputRole, string> = {
  picture: "a picture is needed",
  pictures: "pictures are needed",
  volume: "a volume is needed",
  file: "a file is needed",
  choices: "at least one choice between two pictures is needed",
  controls: "a control picture is needed",
};
/** Files in one input. */
const MOST_FILES = 500;

/** @throws HttpError where the number or the types of files do not fit the input */
function checkFiles(name: string, { kind, types = [] }: TaskInput, files: readonly GivenFile[]): void {
  const most = kind === "picture" || kind === "volume" || kind === "file" ? 1 : MOST_FILES;
  if (files.length > most)
    throw new HttpError(
      422,
      `${name}: expected at most ${most} file${most > 1 ? "s" : ""}, got ${files.length}`,
    );
  const known = kind === "controls" ? types : kind === "choices" ? CHOICE_COLUMNS : undefined;
  for (const [i, { type }] of files.entries()) {
    if (known && !(known as readonly string[]).includes(type ?? ""))
      throw new HttpError(
        422,
        `${name}: file ${i + 1}: expected a type (${known.join(", ")}), got "${type ?? ""}"`,
      );
    if (kind === "choices" && type !== CHOICE_COLUMNS[i % 2])
      throw new HttpError(422, `${name}: expected pairs, each with the chosen picture first`);
  }
  if (kind === "choices" && files.length % 2 === 1)
    throw new HttpError(422, `${name}: expected pairs, got ${files.length} pictures`);
}

/** Options that say more of a job than others. */
const TELLING = ["prompt", "label", "data", "seed"];

/** What a job is about, in a line. */
function subjectOf(
  inputs: Readonly<Record<string, readonly GivenFile[]>>,
  options: Readonly<Record<string, unknown>>,
): string | undefined {
  const names = Object.values(inputs).flatMap((files) => files.flatMap(({ name }) => name ?? []));
  const files = names.length > 2 ? [`${names[0]} and ${names.length - 1} more`] : names;
  const told = TELLING.flatMap((name) => {
    const value = options[name];
    if (value === undefined || value === "" || (name === "seed" && value === 0)) return [];
    return [name === "prompt" ? String(value) : `${name} ${value}`];
  });
  const text = [...files, ...told].join(" · ").replaceAll(/\s+/g, " ");
  return text === "" ? undefined : text.slice(0, 200);
}

/** A request as a job. @throws HttpError for what does not fit the tool's declaration */
export async function newJobOf(
  tools: readonly Tool[],
  request: JobRequest,
  uploads: Uploads,
  find: FindCheckpoint,
): Promise<NewJob> {
  const tool = tools.find((t) => t.name === request.tool);
  if (!tool) throw new HttpError(404, `there is no tool "${request.tool}"`);
  const task = Object.hasOwn(tool.tasks, request.task) ? tool.tasks[request.task] : undefined;
  if (!task) throw new HttpError(404, `${tool.title} has no task "${request.task}"`);
  if (task.unavailable) throw new HttpError(409, task.unavailable);
  const inputs: Record<string, readonly GivenFile[]> = {};
  for (const [name, given] of Object.entries(request.inputs ?? {})) {
    if (!Object.hasOwn(task.inputs, name)) throw new HttpError(422, `there is no input "${name}"`);
    const files = typeof given === "string" ? [{ hash: given }] : given;
    checkFiles(name, task.inputs[name]!, files);
    for (const { hash } of files)
      if (!(await uploads.hold(hash))) throw new HttpError(422, `${name}: no uploaded file has this hash`);
    if (files.length > 0) inputs[name] = files;
  }
  for (const [name, { kind, label, required }] of Object.entries(task.inputs))
    if (required && !Object.hasOwn(inputs, name)) throw new HttpError(422, `${label}: ${NEEDED[kind]}`);
  const options = checkedOptions(task, request.options);
  const checkpoint = await checkedCheckpoint(tool, task, request.checkpoint, find);
  return {
    tool: tool.name,
    task: request.task,
    title: `${tool.title.split(": ")[0]}: ${task.label}`,
    subject: subjectOf(inputs, options),
    inputs,
    options,
    checkpoint,
    resumable: task.resumable,
  };
}
