/** Routes that are declared once: what answers a request, and what the OpenAPI document says of it. */
import type { Context, Hono } from "hono";
import { z } from "zod";
import { readBody } from "./body.ts";
import { HttpError } from "./http-error.ts";

type Schema = z.ZodType;

export interface Route<
  Params extends Schema = Schema,
  Query extends Schema = Schema,
  Body extends Schema = Schema,
> {
  readonly method: "get" | "post" | "delete";
  /** As in OpenAPI: `/api/jobs/{id}`. */
  readonly path: string;
  readonly summary: string;
  readonly params?: Params;
  readonly query?: Query;
  /** A JSON body; `binary` for the bytes of a file. */
  readonly body?: Body;
  readonly binary?: boolean;
  /** A closer description of the body than what is checked first. */
  readonly described?: Schema;
  /** What comes back: a media type. Default JSON. */
  readonly produces?: string;
  /** Statuses other than 200, and why. */
  readonly problems?: Readonly<Record<number, string>>;
  handle(
    given: { params: z.output<Params>; query: z.output<Query>; body: z.output<Body> },
    context: Context,
  ): Promise<Response | object>;
}

/** Only gives the handler its types. */
export const route = <P extends Schema, Q extends Schema, B extends Schema>(r: Route<P, Q, B>): Route =>
  r as unknown as Route;

const JSON_LIMITS = { bytes: 256 * 1024, seconds: 30 };

async function readJson(context: Context): Promise<unknown> {
  const type = context.req.header("content-type") ?? "";
  if (!/^application\/json\b/i.test(type))
    throw new HttpError(415, `expected application/json, got "${type}"`);
  const text = new TextDecoder().decode(await readBody(context.req.raw, JSON_LIMITS));
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new HttpError(400, `the body is no JSON: ${(error as Error).message}`);
  }
}

/** In words, where in the value it is wrong and why. */
export function explainIssues(error: z.ZodError): string {
  return error.issues
    .slice(0, 5)
    .map(({ path, message }) => (path.length > 0 ? `${path.join(".")}: ${message}` : message))
    .join("; ");
}

function check<S extends Schema>(schema: S | undefined, value: unknown, status: 400 | 404): z.output<S> {
  const { success, data, error } = (schema ?? z.unknown()).safeParse(value);
  if (success) return data as z.output<S>;
  throw new HttpError(status, status === 404 ? "there is nothing of that name" : explainIssues(error));
}

/** Lets an application answer a route. */
export function mount(app: Hono, r: Route): void {
  app.on(r.method.toUpperCase(), r.path.replaceAll(/\{(\w+)\}/g, ":$1"), async (context) => {
    const params = check(r.params, context.req.param(), 404);
    const query = check(r.query, context.req.query(), 400);
    const body = r.body ? check(r.body, await readJson(context), 400) : undefined;
    const answer = await r.handle({ params, query, body }, context);
    return answer instanceof Response ? answer : context.json(answer);
  });
}

const schemaOf = (schema: Schema): object => {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return rest;
};

function parametersOf(place: "path" | "query", schema: Schema | undefined): object[] {
  if (!schema) return [];
  const { properties = {}, required = [] } = schemaOf(schema) as {
    properties?: Record<string, { description?: string }>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, { description, ...rest }]) => ({
    name,
    in: place,
    required: place === "path" || required.includes(name),
    ...(description && { description }),
    schema: rest,
  }));
}

function operationOf(r: Route): object {
  const { summary, params, query, body, binary, described, produces, problems } = r;
  const content = body
    ? { "application/json": { schema: schemaOf(described ?? body) } }
    : { "application/octet-stream": { schema: { type: "string", format: "binary" } } };
  return {
    summary,
    parameters: [...parametersOf("path", params), ...parametersOf("query", query)],
    ...((body || binary) && { requestBody: { required: true, content } }),
    responses: {
      200: { description: "As asked", content: { [produces ?? "application/json"]: {} } },
      ...Object.fromEntries(
        Object.entries(problems ?? {}).map(([status, description]) => [status, { description }]),
      ),
    },
  };
}

/** The OpenAPI 3.1 document of routes. */
export function openApi(routes: readonly Route[], info: { title: string; version: string }): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const r of routes) paths[r.path] = { ...paths[r.path], [r.method]: operationOf(r) };
  return { openapi: "3.1.0", info, paths };
}
