import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import {
  checkCircles,
  checkLayers,
  checkLengths,
  importsOf,
  MAX_LINES,
  readSources,
} from "../../tools/check-layers.ts";

const rules = (path: string, text: string): string[] =>
  checkLayers([{ path, text }]).map((f) => `${f.path}:${f.line}: ${f.rule}`);

describe("check-layers", () => {
  it("accepts imports that point downwards or stay in the room", () => {
    expect(
      rules(
        "src/nn/linear.ts",
        'import { Tensor } from "../tensor/index.ts";\nimport { read } from "../io/index.ts";\nimport "./module.ts";',
      ),
    ).toEqual([]);
    expect(rules("src/tensor/ops/op.ts", 'import { ShapeError } from "../../errors.ts";')).toEqual([]);
    expect(rules("src/cli/main.ts", 'import { all } from "../systems/index.ts";')).toEqual([]);
  });

  it("finds every way to import upwards, with file and line", () => {
    const text = [
      'import { a } from "../nn/index.ts";',
      'import type { B } from "../nn/index.ts";',
      'export * from "../systems/index.ts";',
      'const c = await import("../studio/index.ts");',
      'type D = import("../data/index.ts").D;',
    ].join("\n");
    const found = checkLayers([{ path: "src/tensor/x.ts", text }]);
    expect(found.map((f) => f.line)).toEqual([1, 2, 3, 4, 5]);
    expect(found[0]!.rule).toContain('"tensor" must not import "nn"');
  });

  it("keeps systems apart", () => {
    expect(rules("src/systems/ddpm/model.ts", 'import "../dit/model.ts";')).toEqual([
      'src/systems/ddpm/model.ts:1: system "ddpm" must not import system "dit": share through the rooms below',
    ]);
    expect(rules("src/systems/ddpm/train.ts", 'import "./model.ts"; import "../system.ts";')).toEqual([]);
    expect(rules("src/systems/ddpm/train.ts", 'import "../index.ts";')).toHaveLength(1);
    expect(rules("src/systems/index.ts", 'import "./ddpm/system.ts"; import "./dit/system.ts";')).toEqual([]);
  });

  it("keeps Node out of what runs in the browser", () => {
    expect(rules("src/nn/x.ts", 'import { readFileSync } from "node:fs";')).toHaveLength(1);
    expect(rules("src/tensor/runtime/node.ts", 'import * as ort from "onnxruntime-node";')).toEqual([]);
    expect(rules("src/io/x.ts", 'import { readFile } from "#node";')).toEqual([]);
    expect(rules("src/platform/node.ts", 'export { readFile } from "node:fs/promises";')).toEqual([]);
    expect(rules("src/study/x.ts", 'import { readFileSync } from "node:fs";')).toEqual([]);
    expect(rules("src/nn/x.ts", 'await import("node:fs");')).toEqual([]);
  });

  it("names unknown rooms and imports from outside src", () => {
    expect(rules("src/utils/x.ts", "")).toHaveLength(1);
    expect(rules("src/tensor/x.ts", 'import "../../test/x.ts"; import "tweedie/tensor";')).toHaveLength(2);
  });

  it("does not take strings and comments for imports", () => {
    const text = '// import "../nn/a.ts"\nconst s = \'import "../nn/a.ts"\';';
    expect(importsOf({ path: "src/tensor/x.ts", text })).toEqual([]);
  });

  it("finds files that import each other in a circle", () => {
    const file = (name: string, text: string) => ({ path: `src/tensor/${name}.ts`, text });
    const a = file("a", 'import "./b.ts";');
    const b = file("b", 'import "./c.ts";');
    const c = file("c", 'import "node:fs";\nimport type { A } from "./a.ts";');
    expect(checkCircles([a, b])).toEqual([]);
    expect(checkCircles([b, a, c]).map(({ path, line }) => `${path}:${line}`)).toEqual(["src/tensor/a.ts:1"]);
  });

  it("reports long files", () => {
    const file = (lines: number) => ({ path: "src/io/x.ts", text: "x;\n".repeat(lines) });
    expect(checkLengths([file(MAX_LINES)])).toEqual([]);
    expect(checkLengths([file(MAX_LINES + 1)])[0]).toMatchObject({
      path: "src/io/x.ts",
      line: MAX_LINES + 1,
    });
  });

  it("holds for this repository", () => {
    const files = readSources(fileURLToPath(new URL("../..", import.meta.url)), "src");
    expect([...checkLayers(files), ...checkCircles(files)]).toEqual([]);
  });
});
