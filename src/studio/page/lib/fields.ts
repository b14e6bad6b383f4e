/** JSON Schema of an option as a field of a form. */
import { withoutEffect } from "../../../systems/effect.ts";
import type { FieldSchema, FormSchema } from "../../api-types.ts";

export interface Field {
  readonly name: string;
  /** `list`: several words, with commas between. */
  readonly kind: "number" | "switch" | "choice" | "text" | "lines" | "list" | "json";
  readonly integer: boolean;
  readonly choices: readonly (string | number)[];
  readonly help: string;
  readonly initial: unknown;
  readonly min?: number;
  readonly max?: number;
  readonly maxLength?: number;
  readonly required: boolean;
  readonly when: FieldSchema["when"];
}

/** Whether a field has an effect beside the values of the others. */
export const counts = ({ when }: Field, fields: readonly Field[], values: Values): boolean =>
  !withoutEffect(when, (name) => values[name] ?? fields.find((field) => field.name === name)?.initial);

type Values = Readonly<Record<string, unknown>>;

/** JSON numbers end where integers are no longer exact: that is no limit worth showing. */
const shownLimit = (value: number | undefined): number | undefined =>
  value === undefined || Math.abs(value) >= Number.MAX_SAFE_INTEGER ? undefined : value;

/** Of several forms, the one that says most: `number | null` is a number. */
function mainSchema(schema: FieldSchema): FieldSchema {
  const parts = schema.anyOf?.filter((part) => part.type !== ("null" as string));
  if (!parts || parts.length === 0) return schema;
  const constants = parts.map((part) => part.const);
  if (constants.every((c) => typeof c === "string" || typeof c === "number"))
    return { ...schema, enum: constants as (string | number)[] };
  return { ...parts[0], ...schema, type: parts[0]!.type };
}

export function fieldsOf(form: FormSchema): Field[] {
  return Object.entries(form.properties).map(([name, given]) => {
    const schema = mainSchema(given);
    const kind = schema.enum
      ? "choice"
      : schema.type === "number" || schema.type === "integer"
        ? "number"
        : schema.type === "boolean"
          ? "switch"
          : schema.type === "string"
            ? given.role === "text"
              ? "lines"
              : "text"
            : schema.type === "array"
              ? "list"
              : "json";
    return {
      name,
      kind,
      integer: schema.type === "integer",
      choices: schema.enum ?? [],
      help: given.description ?? schema.description ?? "",
      initial: kind === "list" ? listText(given.default) : (given.default ?? (kind === "switch" ? false : undefined)),
      min: shownLimit(schema.minimum ?? schema.exclusiveMinimum),
      max: shownLimit(schema.maximum ?? schema.exclusiveMaximum),
      maxLength: schema.maxLength,
      required: form.required?.includes(name) === true && given.default === undefined,
      when: given.when,
    };
  });
}

/** Ranges that a slider can show, where there is a value to begin with. */
export const hasSlider = ({ kind, min, max, initial }: Field): boolean =>
  kind === "number" && initial !== undefined && min !== undefined && max !== undefined && max - min <= 1000;

const listText = (value: unknown): string | undefined =>
  Array.isArray(value) && value.length > 0 ? value.join(", ") : undefined;

/** What a text in a field stands for. */
function sent(kind: Field["kind"], text: string): unknown {
  if (kind === "json") return JSON.parse(text);
  return kind === "list" ? text.split(",").map((word) => word.trim()).filter(Boolean) : text;
}

/** What is sent: empty fields are left out, so that the system's own default holds. */
export function valuesOf(fields: readonly Field[], values: Values): Record<string, unknown> {
  const entries = fields.flatMap((field): [string, unknown][] => {
    const { name, kind } = field;
    if (!counts(field, fields, values)) return [];
    const value = values[name];
    if (value === undefined || value === null || value === "") return [];
    return [[name, typeof value === "string" ? sent(kind, value) : value]];
  });
  return Object.fromEntries(entries);
}
