/**
 * Exports that tests alone use, or nobody: `npx tsx tools/unused-exports.ts [ROOM]`. What an `index.ts` passes on is not taken
 * for a use, so that the list holds what a package's users may want; whoever deletes from it looks there first.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const root = fileURLToPath(new URL("..", import.meta.url));
const filesIn = (folder: string, ending = ".ts"): string[] =>
  ts.sys.readDirectory(join(root, folder), [ending]);

const { config } = ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile);
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
const files = ["src", "test", "tools", "bench"].flatMap((folder) => filesIn(folder));
const service = ts.createLanguageService({
  getScriptFileNames: () => files,
  getScriptVersion: () => "0",
  getScriptSnapshot: (path) => {
    const text = ts.sys.readFile(path);
    return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
  },
  getCurrentDirectory: () => root,
  getCompilationSettings: () => ({ ...options, noEmit: true }),
  getDefaultLibFileName: ts.getDefaultLibFilePath,
  fileExists: ts.sys.fileExists,
  readFile: ts.sys.readFile,
});
const program = service.getProgram()!;
/** The page's parts, which TypeScript does not read. */
const parts = filesIn("src", ".svelte")
  .map((path) => readFileSync(path, "utf8"))
  .join("\n");

/** Names that a statement exports. */
function exportedBy(statement: ts.Statement): ts.Identifier[] {
  const modifiers = ts.canHaveModifiers(statement) ? ts.getModifiers(statement) : undefined;
  if (!modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)) return [];
  if (ts.isVariableStatement(statement))
    return statement.declarationList.declarations.flatMap(({ name }) =>
      ts.isIdentifier(name) ? [name] : [],
    );
  const { name } = statement as ts.DeclarationStatement;
  return name && ts.isIdentifier(name) ? [name] : [];
}

for (const path of filesIn(join("src", process.argv[2] ?? "")).filter((one) => !one.endsWith("index.ts"))) {
  const source = program.getSourceFile(path)!;
  for (const name of source.statements.flatMap(exportedBy)) {
    const references = service.findReferences(path, name.getStart(source))!.flatMap((one) => one.references);
    const elsewhere = references.filter(
      ({ fileName }) => fileName !== path && !fileName.endsWith("index.ts"),
    );
    const inTests = (fileName: string): boolean => fileName.startsWith(join(root, "test"));
    if (elsewhere.some(({ fileName }) => !inTests(fileName)) || parts.includes(name.text)) continue;
    const within = references.filter(({ fileName }) => fileName === path).length > 1;
    const users = [...(elsewhere.length > 0 ? ["tests"] : []), ...(within ? ["its own file"] : [])];
    const isType = ts.isInterfaceDeclaration(name.parent) || ts.isTypeAliasDeclaration(name.parent);
    const kind = isType ? "type" : "value";
    console.log([path.slice(root.length), name.text, kind, users.join(" and ") || "nobody"].join("\t"));
  }
}
