import { type CommandDef, defineCommand } from "citty";
import { describe, expect, test } from "vitest";
import { explain } from "../../src/cli/errors.ts";
import { helpText, table, wrap } from "../../src/cli/help.ts";
import { editDistance, nearest } from "../../src/cli/nearest.ts";
import { type Options, readOptions } from "../../src/cli/options.ts";
import { runCli } from "../../src/cli/run.ts";
import { AbortError, ArgumentError } from "../../src/errors.ts";

const OPTIONS = {
  steps: { type: "string", alias: "s", valueHint: "N", description: "how many", default: "50" },
  lora: { type: "string", multiple: true },
  metadata: { type: "boolean", default: true },
  json: { type: "boolean" },
} as const satisfies Options;

const values = (...args: string[]) => Object.fromEntries(readOptions(args, OPTIONS).values);

describe("reading options", () => {
  test("values, aliases, repeats, switches and their negation", () => {
    expect(values("-s", "3", "--lora=a", "--lora", "b", "--no-metadata", "--json")).toEqual({
      steps: ["3"],
      lora: ["a", "b"],
      metadata: false,
      json: true,
    });
    expect(values("--steps", "-1", "--lora=--json")).toEqual({ steps: ["-1"], lora: ["--json"] });
  });

  test.each([
    [["--setps", "3"], 'unknown option --setps; did you mean "--steps"?'],
    [["--no-metdata"], 'unknown option --no-metdata; did you mean "--no-metadata"?'],
    [["--xyzzy"], "unknown option --xyzzy"],
    [["--steps"], "--steps needs a value: --steps N"],
    [["--steps", "--json"], "--steps needs a value: --steps N; got the option --json"],
    [["--steps", "1", "-s", "2"], "-s was given twice"],
    [["--json=yes"], '--json takes no value, got "yes"'],
    [["steps", "3"], 'unexpected "steps"; did you mean "--steps"?'],
    [["a", "cat"], 'unexpected "a". Texts with spaces need quotes'],
    [["--", "--steps"], 'unexpected "--steps". Texts with spaces need quotes'],
  ])("%j is refused", (args, message) => {
    expect(() => readOptions(args, OPTIONS)).toThrow(message);
  });

  test("words go to positional arguments while there are any", () => {
    const options = { file: { type: "positional" }, json: { type: "boolean" } } as const satisfies Options;
    expect(readOptions(["a.png", "--json"], options).positionals).toEqual(["a.png"]);
    expect(() => readOptions(["a.png", "b.png"], options)).toThrow('unexpected "b.png"');
    expect(() => readOptions([], options)).toThrow("expected FILE");
    const optional = { file: { type: "positional", required: false } } as const satisfies Options;
    expect(readOptions([], optional).positionals).toEqual([]);
  });
});

describe("suggestions", () => {
  test("edit distance counts swapped neighbours once", () => {
    expect(editDistance("stesp", "steps")).toBe(1);
    expect(editDistance("kitten", "sitting")).toBe(3);
    expect(editDistance("", "abc")).toBe(3);
  });
  test("the nearest word, or none when none is near", () => {
    expect(nearest("eulr", ["ddim", "euler", "euler-a"])).toBe("euler");
    expect(nearest("guid", ["guidance", "seed"])).toBe("guidance");
    expect(nearest("zzzz", ["guidance", "seed"])).toBeUndefined();
  });
});

describe("running a command line", () => {
  const calls: string[][] = [];
  const root: CommandDef = defineCommand({
    meta: { name: "tool", version: "1.2.3", description: "Does things." },
    subCommands: {
      work: async () =>
        defineCommand({
          meta: { description: "Works." },
          args: OPTIONS,
          run: ({ rawArgs }) => {
            calls.push(rawArgs);
            if (rawArgs.includes("bad")) throw new ArgumentError("steps: expected 1 or more, got 0");
          },
        }),
      nested: defineCommand({
        subCommands: { inner: defineCommand({ run: () => void calls.push(["inner"]) }) },
      }),
    },
  });
  const run = async (...args: string[]) => {
    const [out, error]: [string[], string[]] = [[], []];
    const terminal = { out: (t: string) => out.push(t), error: (t: string) => error.push(t), columns: 80 };
    return { code: await runCli(root, args, terminal), out: out.join("\n"), error: error.join("\n") };
  };

  test("commands get their arguments, also nested ones", async () => {
    calls.length = 0;
    expect((await run("work", "-s", "3")).code).toBe(0);
    expect((await run("nested", "inner")).code).toBe(0);
    expect(calls).toEqual([["-s", "3"], ["inner"]]);
  });

  test("help at every level, and the version", async () => {
    expect((await run("--help")).out).toMatch(/Does things[\s\S]*tool COMMAND[\s\S]*work +Works/);
    expect((await run()).out).toContain("Commands");
    expect((await run("work", "--json", "--help")).out).toContain("-s, --steps N");
    expect((await run("nested")).out).toContain("tool nested COMMAND");
    expect((await run("--version")).out).toBe("1.2.3");
  });

  test("mistakes are one line and exit code 2", async () => {
    const line = async (...args: string[]) => {
      const { code, error, out } = await run(...args);
      expect([code, out]).toEqual([2, ""]);
      return error;
    };
    expect(await line("wrok")).toBe('tool: unknown command "wrok"; did you mean "tool work"?');
    expect(await line("zzz")).toBe('tool: unknown command "zzz"; tool --help lists them');
    expect(await line("nested", "iner")).toBe(
      'tool: unknown command "iner"; did you mean "tool nested inner"?',
    );
    expect(await line("work", "--stps=1")).toBe('tool: unknown option --stps; did you mean "--steps"?');
    expect(await line("--what")).toBe("tool: unknown option --what");
    expect(await line("work", "--lora", "bad")).toBe("tool: steps: expected 1 or more, got 0");
  });

  test("errors are told apart: bad input, Ctrl-C, the file system, a defect", () => {
    expect(explain(new ArgumentError("x")).code).toBe(2);
    expect(explain(new AbortError())).toEqual({ message: "stopped", code: 130 });
    const missing = Object.assign(new Error("ENOENT: open 'a'"), { code: "ENOENT", path: "a" });
    expect(explain(missing)).toEqual({ message: "a: there is no such file or folder", code: 2 });
    expect(explain(new TypeError("x is not a function"))).toMatchObject({ code: 1 });
    expect(explain(new TypeError("x is not a function")).message).toContain("a defect of tweedie");
  });
});

describe("help texts", () => {
  test("descriptions are aligned and wrapped", () => {
    expect(wrap("aa bb cc", 5)).toEqual(["aa bb", "cc"]);
    expect(
      table(
        [
          ["-a", "one two"],
          ["--long", "three"],
        ],
        20,
      ),
    ).toBe("  -a      one two\n  --long  three");
    const text = table([["--x", "word ".repeat(30).trim()]], 60);
    expect(Math.max(...text.split("\n").map((l) => l.length))).toBeLessThanOrEqual(60);
  });
  test("defaults and groups are shown", async () => {
    const grouped = { ...OPTIONS, lora: { type: "string", group: "Adapters" } } as const;
    const text = await helpText({ args: grouped }, ["tool"]);
    expect(text).toContain("how many (default 50)");
    expect(text).toContain("Adapters\n");
    expect(text).toContain("--no-metadata");
  });
});
