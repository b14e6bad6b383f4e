import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { actionOptions } from "../../src/cli/systems/options.ts";
import { commandLine } from "../../src/systems/command-line.ts";
import {
  type Action,
  flagOf,
  hinted,
  type OptionSchema,
  optionSchemas,
  SYSTEMS,
} from "../../src/systems/index.ts";

/** The words that a shell makes of a command line. */
const words = (line: string): string[] =>
  execFileSync("sh", ["-c", `printf '%s\\0' ${line}`], { encoding: "utf8" })
    .split("\0")
    .slice(0, -1);

const schema = z.object({
  steps: z.int().default(10),
  learningRate: z.number().default(0.1),
  bias: z.number().default(0),
  title: z.string().optional(),
  loud: z.boolean().default(false),
  tidy: z.boolean().default(true),
  names: z.array(z.string()).default([]),
  data: hinted(z.string().optional(), { path: "folder", hint: "DIR" }),
  model: hinted(z.string().default("small"), { path: "file", hint: "NAME|FILE", names: ["small", "large"] }),
  out: hinted(z.string().default("out/x"), { path: "output", hint: "DIR" }),
});

describe("the command line of options", () => {
  it("is the words alone at the defaults", () => {
    expect(commandLine("reproduce example", schema, schema.parse({}))).toBe("tweedie reproduce example");
  });

  it("holds every option that is not at its default, quoted for a shell", () => {
    const options = schema.parse({
      steps: 11,
      learningRate: 1e-7,
      bias: -1,
      title: "it's $HOME; a b",
      loud: true,
      tidy: false,
      names: ["a b", "-c"],
    });
    const given = words(commandLine("train example", schema, options));
    expect(given).toEqual([
      ...["tweedie", "train", "example", "--steps", "11", "--learning-rate", "1e-7", "--bias=-1"],
      ...["--title", "it's $HOME; a b", "--loud", "--no-tidy", "--names", "a b", "--names=-c"],
    ]);
    const action = { about: "", options: schema } as unknown as Action;
    expect(actionOptions(action, given.slice(3))).toEqual(options);
  });

  it("names no folder of this machine: paths below the working folder from there, others by their placeholder", () => {
    const root = join("/", "home", "me", "tweedie");
    const line = (options: object) => commandLine("run x", schema, schema.parse(options), root);
    expect(line({ data: join(root, "data", "sets") })).toBe("tweedie run x --data data/sets");
    expect(line({ data: "data/../more" })).toBe("tweedie run x --data more");
    expect(line({ data: "/srv/data" })).toBe("tweedie run x --data DIR");
    expect(line({ data: "../elsewhere" })).toBe("tweedie run x --data DIR");
    expect(line({ model: "/srv/m.safetensors" })).toBe("tweedie run x --model FILE");
    expect(line({ model: "large" })).toBe("tweedie run x --model large");
  });

  it.each(
    SYSTEMS.flatMap(({ name, actions }) =>
      Object.entries(actions).map(([a, action]) => [a, name, action!] as const),
    ),
  )("says every option of %s %s, and is read back as the same options", (name, system, action) => {
    const schemas = optionSchemas(action).filter(({ list }) => !list);
    const otherThan = ({ type, choices, minimum = 0, maximum = 1e6, ...option }: OptionSchema): unknown => {
      if (type === "boolean") return option.default !== true;
      if (type === "string" && !choices) return option.name === "shard" ? "2/3" : "some text";
      const values = choices ?? [minimum, Math.min(maximum, minimum + 1)];
      return values.find((value) => value !== option.default);
    };
    const whole = Object.fromEntries(schemas.map((option) => [option.name, otherThan(option)]));
    // What counts only beside other values is said with them.
    const needs = ({ when = {} }: OptionSchema): Record<string, unknown> =>
      Object.fromEntries(
        Object.entries(when).flatMap(([other, [needed]]) =>
          needed === false ? [] : [[other, needed === true ? (whole[other] ?? true) : needed]],
        ),
      );
    const [free, bound] = [schemas.filter(({ when }) => !when), schemas.filter(({ when }) => when)];
    const required = schemas.filter((option) => option.required).map(({ name: key }) => [key, whole[key]]);
    for (const given of [
      Object.fromEntries(free.map(({ name: key }) => [key, whole[key]])),
      ...bound.map((one) => ({
        ...Object.fromEntries(required),
        ...needs(one),
        [one.name]: whole[one.name],
      })),
    ]) {
      const parsed = action.options.safeParse(given);
      const options = parsed.success ? parsed.data : given;
      const line = words(commandLine(`${name} ${system}`, action.options, options));
      for (const { name: key, default: standard } of schemas)
        if (given[key] !== undefined && given[key] !== standard)
          expect(line.join(" ")).toContain(flagOf(key));
      if (parsed.success) expect(actionOptions(action, line.slice(3))).toEqual(options);
    }
  });
});
