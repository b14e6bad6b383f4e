/** What a newcomer sees on hovering: every function and class of every entry of the package says what it is for. */
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Functions and classes without a line, as `file: name`, and names of those with an example. */
function looked(): { silent: string[]; examples: Set<string> } {
  const { exports } = JSON.parse(readFileSync(`${ROOT}package.json`, "utf8"));
  const entries = Object.values<{ default?: string }>(exports)
    .flatMap((e) => e.default ?? [])
    .map((path) => ROOT + path.replace("./dist/", "src/").replace(/\.js$/, ".ts"));
  const config = ts.readConfigFile(`${ROOT}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, dirname(`${ROOT}tsconfig.json`));
  const program = ts.createProgram(entries, { ...options, types: ["node"] });
  const checker = program.getTypeChecker();
  const silent = new Set<string>();
  const examples = new Set<string>();
  for (const entry of entries) {
    const file = checker.getSymbolAtLocation(program.getSourceFile(entry)!);
    for (const found of file ? checker.getExportsOfModule(file) : []) {
      const symbol = found.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(found) : found;
      const where = symbol.valueDeclaration;
      if (!where) continue;
      const called = checker.getTypeOfSymbol(symbol).getCallSignatures().length > 0;
      if (!called && !(symbol.flags & ts.SymbolFlags.Class)) continue;
      if (symbol.getJsDocTags(checker).some((tag) => tag.name === "example")) examples.add(found.name);
      const said = symbol.getDocumentationComment(checker).length + symbol.getJsDocTags(checker).length;
      if (said === 0) silent.add(`${where.getSourceFile().fileName.slice(ROOT.length)}: ${found.name}`);
    }
  }
  return { silent: [...silent].sort(), examples };
}

describe("documentation", () => {
  const { silent, examples } = looked();

  it("has a line for every function and class", () => {
    // Bound functions of a record whose type says what they do.
    const bound = ["src/systems/q-dit/model.ts: loadDiT", "src/systems/q-dit/model.ts: saveDiT"];
    expect(silent).toEqual(bound);
  });

  it("shows how to begin: examples at the functions where a newcomer starts", () => {
    expect([...examples]).toEqual(expect.arrayContaining(STARTS));
  });
});

const STARTS = [
  ...["grad", "valueAndGrad", "jit", "exportOnnx", "importOnnx", "train", "adamW", "addLora"],
  ...["diffusionBatch", "generatePictures"],
];
