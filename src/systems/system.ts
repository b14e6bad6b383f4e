/**
 * How a system declares itself, once: what it is, what can be done with it and under which options. Command line,
 * studio and tables are generated from the declaration; nothing else knows a system.
 */
import { z } from "zod";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../io/index.ts";
import { drained, type Work } from "../work.ts";
import { type When, withoutEffect } from "./effect.ts";
import type { Tour } from "./tour.ts";

/** Where a system comes from. */
export interface Paper {
  readonly title: string;
  readonly authors: string;
  readonly venue: string;
  readonly year: number;
  readonly arxiv?: string;
}

/** A trained model that ships, or can be made. */
export interface Checkpoint {
  readonly name: string;
  /** Path from the repository's root. */
  readonly file: string;
  /** One line: what it was trained on. */
  readonly about: string;
}

/** What comes of an action. */
export interface ActionResult {
  /** One or two sentences. */
  readonly summary: string;
  /** Numbers by name, for programs. */
  readonly metrics?: Readonly<Record<string, number>>;
  /** Some inputs could not be used; the others are done. */
  readonly incomplete?: boolean;
}

export interface ActionContext {
  readonly signal?: AbortSignal;
  /** Somebody watches: previews while sampling and samples of a training are worth their time. */
  readonly previews?: boolean;
}

/** Something that can be done with a system. */
export interface Action<Schema extends z.ZodObject = z.ZodObject> {
  /** One line, for help texts. */
  readonly about: string;
  /** Options by name, with defaults, ranges and descriptions. */
  readonly options: Schema;
  readonly examples?: readonly string[];
  /** Does it. Options are checked already. */
  run(options: z.output<Schema>, context: ActionContext): Work<ActionResult>;
}

/** What can be done with any system, in the order of the work. */
export const ACTIONS = ["train", "run", "evaluate", "reproduce"] as const;
export type ActionName = (typeof ACTIONS)[number];

/** A picture made on the spot, for trying a system without data of one's own. */
export interface SamplePicture {
  readonly name: string;
  readonly label: string;
  /** Name of the checkpoint that was trained for such pictures. */
  readonly checkpoint?: string;
  make(): Promise<Picture>;
}

/**
 * Inference wholly in a web page, on onnxruntime-web. What belongs to the picture, such as its standardisation, is part
 * of the graph, so that the page needs to know nothing of the model.
 */
export interface InPage {
  /** What runs there, as the beginning of a sentence. */
  readonly label: string;
  /** Sides of the square pictures that it can be made for. */
  readonly sizes: readonly number[];
  /** What it gives: how likely each pixel is, or the picture anew. Default `probability`. */
  readonly gives?: "probability" | "picture";
  /** Names of the checkpoints that it runs. Default: all of the system's. */
  readonly checkpoints?: readonly string[];
  /**
   * ONNX of a function from `image` [1, 3, size, size] in [0, 1] to one output: `probability` [1, 1, size, size], or the
   * picture anew, [1, 3, size, size] in [0, 1].
   */
  build(options: { readonly checkpoint: string; readonly size: number }): Promise<Uint8Array>;
}

export interface System {
  /** Short name in lower case, the folder's and the command line's. */
  readonly name: string;
  readonly title: string;
  /** One line. */
  readonly about: string;
  readonly paper: Paper;
  /** The paper's headline, as it is measured here. */
  readonly claim: string;
  /** The one number that says most, and what it is to be compared with, from the data of its study's `results.json`. */
  headline(data: unknown): Promise<string>;
  readonly checkpoints: readonly Checkpoint[];
  readonly actions: Readonly<Partial<Record<ActionName, Action>>>;
  readonly samples?: readonly SamplePicture[];
  readonly inPage?: InPage;
  /** What it shows in `npm start`. */
  readonly tour?: Tour;
}

/** `learningRate` as `learning-rate`. */
export const flagOf = (name: string): string =>
  name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** An action whose options keep their types inside `run`; what has no effect beside the other options is refused by name. */
export const action = <Schema extends z.ZodObject>(definition: Action<Schema>): Action =>
  ({
    ...definition,
    async *run(options: z.output<Schema>, context: ActionContext) {
      const idle = idleOption(optionSchemas(definition as unknown as Action), options);
      if (idle) throw new ArgumentError(idle);
      return yield* definition.run(options, context);
    },
  }) as unknown as Action;

/** An action whose code is loaded when it runs, so that declarations stay small. */
export const deferredAction = <Schema extends z.ZodObject>({
  load,
  ...declared
}: Omit<Action<Schema>, "run"> & { readonly load: () => Promise<Action<Schema>["run"]> }): Action =>
  action({
    ...declared,
    async *run(options: z.output<Schema>, context: ActionContext) {
      return yield* (await load())(options, context);
    },
  });

/** What kind of path an option is, for file pickers and completion. */
export type PathKind = "file" | "folder" | "file-or-folder" | "output";

/**
 * What somebody brings, as files: one picture, several, a volume, any file, answers to "which of two pictures?", or
 * pictures that control another one, each of a type. `systems/inputs.ts` reads what they come to on the command line.
 */
export const INPUT_ROLES = ["picture", "pictures", "volume", "file", "choices", "controls"] as const;
export type InputRole = (typeof INPUT_ROLES)[number];

/**
 * What an option stands for, where it is no plain value: what somebody brings, a text of several lines, the path of a
 * camera, a model chosen by name, a folder of data, something that is written, the folder in which results are kept by
 * whoever shows them, or a matter of the command line alone.
 */
export type OptionRole =
  | InputRole
  | "text"
  | "camera-path"
  | "model"
  | "data"
  | "output"
  | "results"
  | "command-line";

/** What draws pictures to choose from: an action with these options, whose figure of this name has the pairs as rows. */
export interface Draws {
  readonly action: ActionName;
  readonly options: Readonly<Record<string, string | number | boolean>>;
  readonly figure: string;
}

/** Extra facts about an option: its heading, its placeholder, its role, and whether it is a path. */
export interface OptionHints {
  readonly role?: OptionRole;
  readonly group?: string;
  readonly hint?: string;
  readonly path?: PathKind;
  /** Values that have a meaning of their own beside what is typed freely: names of models, types of controls. */
  readonly names?: readonly string[];
  /** It has an effect only where other options have one of these values. */
  readonly when?: When;
  /** Of choices: what draws pictures to choose from. */
  readonly draws?: Draws;
  /** On a command line it has no flag. */
  readonly positional?: boolean;
}

/** Adds hints to an option. They appear in its JSON schema. */
export const hinted = <T extends z.ZodType>(type: T, hints: OptionHints): T =>
  type.meta({ ...type.meta(), ...hints }) as T;

/** An option in plain data, as its JSON schema says it. */
export interface OptionSchema extends OptionHints {
  readonly name: string;
  readonly type: "string" | "number" | "integer" | "boolean";
  readonly description: string;
  /** A list of such values. */
  readonly list: boolean;
  readonly required: boolean;
  readonly default?: unknown;
  readonly choices?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
}

interface JsonSchema extends OptionHints {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly items?: JsonSchema;
}

const KINDS = ["string", "number", "integer", "boolean"] as const;
const HINTS = ["default", "group", "hint", "role", "path", "names", "when", "draws", "positional"] as const;

/** Fields that are not undefined. */
export const defined = <T extends object>(values: T) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };

/** Bounds of integers that JSON cannot exceed are none. */
const bound = (value: number | undefined): number | undefined =>
  value !== undefined && Math.abs(value) < Number.MAX_SAFE_INTEGER ? value : undefined;

function optionOf(name: string, schema: JsonSchema, required: boolean): OptionSchema {
  const list = schema.type === "array";
  const inner = list ? (schema.items ?? {}) : schema;
  const type = KINDS.find((kind) => kind === inner.type) ?? "string";
  const { description = "" } = schema;
  const limits = { minimum: bound(inner.minimum), maximum: bound(inner.maximum) };
  const hints: OptionHints = defined(Object.fromEntries(HINTS.map((hint) => [hint, schema[hint]])));
  return {
    name,
    type,
    description,
    list,
    required,
    ...hints,
    ...defined({ choices: inner.enum?.map(String), ...limits }),
  };
}

/** The options of an action as plain data: what a command line's flags and a form's fields are made of. */
export function optionSchemas({ options }: Pick<Action, "options">): OptionSchema[] {
  const schema = z.toJSONSchema(options, { io: "input" }) as {
    properties?: Record<string, JsonSchema>;
    required?: readonly string[];
  };
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, property]) =>
    optionOf(name, property, required.has(name)),
  );
}

/**
 * Which option has no effect beside the others, and why; undefined where all count. Values may be defaults: only another one
 * has to have an effect, unless what is given was given on purpose, `explicit`.
 */
export function idleOption(
  schemas: readonly OptionSchema[],
  given: Readonly<Record<string, unknown>>,
  explicit = false,
): string | undefined {
  const valueAt = (name: string): unknown =>
    given[name] ?? schemas.find((schema) => schema.name === name)?.default;
  for (const { name, when, default: standard } of schemas) {
    if (given[name] === undefined || (!explicit && given[name] === standard)) continue;
    const idle = withoutEffect(when, valueAt);
    if (!idle) continue;
    const [flag, other] = [flagOf(name), flagOf(idle.name)];
    const wanted = idle.needed.filter((value) => typeof value !== "boolean");
    if (wanted.length === 0 && !idle.needed.includes(true)) return `--${flag} has no effect with --${other}`;
    const needed = [`--${other}`, wanted.join(" or ")].filter(Boolean).join(" ");
    return `--${flag} has no effect here: it needs ${needed}, which is ${idle.is || "not given"}`;
  }
  return undefined;
}

/** Runs an action to its end, for callers that do not watch. */
export const finish = (run: Work<ActionResult>): Promise<ActionResult> => drained(run);
