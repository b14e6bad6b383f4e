/** Flags of a command line from the options that a system declares. */
import type { z } from "zod";
import { type Action, flagOf, idleOption, type OptionSchema, optionSchemas } from "../../systems/system.ts";
import { UsageError } from "../errors.ts";
import { type GivenOptions, type Option, type Options, readOptions } from "../options.ts";
import { choiceValue, integerValue, numberValue } from "../values.ts";

const HINTS: Readonly<Record<OptionSchema["type"], string>> = {
  string: "TEXT",
  number: "X",
  integer: "N",
  boolean: "",
};

function rangeText({ minimum, maximum }: OptionSchema): string {
  if (minimum !== undefined && maximum !== undefined) return `, ${minimum} to ${maximum}`;
  if (minimum !== undefined && minimum !== 0) return `, from ${minimum}`;
  return "";
}

function flag(schema: OptionSchema): Option {
  const { type, description, list, required, choices, group, hint, path, names, positional } = schema;
  if (positional) return { type: "positional", description, ...(path !== undefined && { path }) };
  const shown = schema.default === undefined ? "" : ` (default ${schema.default})`;
  const common = { group, description: `${description}${rangeText(schema)}` };
  if (type === "boolean") return { ...common, type: "boolean", default: schema.default === true };
  return {
    ...common,
    type: "string",
    description: `${common.description}${shown}${required ? " (required)" : ""}`,
    valueHint: hint ?? choices?.join("|") ?? HINTS[type],
    multiple: list,
    ...(path !== undefined && { path }),
    ...((choices ?? names) && { values: choices ?? names }),
  };
}

/** The flags of an action, by name. */
export const flagsOf = (action: Action): Options =>
  Object.fromEntries(optionSchemas(action).map((schema) => [flagOf(schema.name), flag(schema)]));

function parsed(schema: OptionSchema, text: string): unknown {
  const name = flagOf(schema.name);
  const { type, choices, minimum: min, maximum: max } = schema;
  if (choices) return choiceValue(name, text, choices);
  if (type === "integer") return integerValue(name, text, { min, max });
  if (type === "number") return numberValue(name, text, { min, max });
  return text;
}

/** What was given, by the names and types of the declaration. */
function typed(
  schemas: readonly OptionSchema[],
  { values, positionals }: GivenOptions,
): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [i, schema] of schemas.filter((one) => one.positional).entries())
    found[schema.name] = positionals[i];
  for (const schema of schemas) {
    const texts = values.get(flagOf(schema.name));
    if (texts === undefined) continue;
    if (typeof texts === "boolean") found[schema.name] = texts;
    else {
      const all = texts.map((text) => parsed(schema, text));
      found[schema.name] = schema.list ? all : all[0];
    }
  }
  return found;
}

/**
 * Arguments as the options of an action; `others` are options beside those that it declares.
 *
 * @throws UsageError for what is unknown, missing or out of range
 */
export function actionOptions<Schema extends z.ZodObject>(
  action: Action<Schema>,
  args: readonly string[],
  others: Options = {},
): z.output<Schema> {
  const schemas = optionSchemas(action);
  const values = typed(schemas, readOptions(args, { ...flagsOf(action as unknown as Action), ...others }));
  const idle = idleOption(schemas, values, true);
  if (idle) throw new UsageError(idle);
  const missing = schemas.find((schema) => schema.required && values[schema.name] === undefined);
  if (missing) throw new UsageError(`--${flagOf(missing.name)} is needed: ${missing.description}`);
  const result = action.options.safeParse(values);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new UsageError(`--${flagOf(String(issue?.path[0] ?? ""))}: ${issue?.message ?? "is wrong"}`);
}
