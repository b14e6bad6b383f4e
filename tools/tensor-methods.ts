/**
 * `npx tsx tools/tensor-methods.ts`: writes `src/tensor/tensor-methods.ts`, the methods of `Tensor` as an interface with
 * the documentation of the functions that they are. A mapped type would have the same signatures and no text to show.
 */
import { writeFileSync } from "node:fs";
import { dirname, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const TABLE = `${ROOT}src/tensor/methods.ts`;
export const WRITTEN = `${ROOT}src/tensor/tensor-methods.ts`;

function program(): ts.Program {
  const { config } = ts.readConfigFile(`${ROOT}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: [TABLE] }, ts.sys, ROOT);
  return ts.createProgram([TABLE], options);
}

/** The functions of the table by the names of their methods. */
function functions(file: ts.SourceFile, checker: ts.TypeChecker): Map<string, ts.FunctionDeclaration> {
  const found = new Map<string, ts.FunctionDeclaration>();
  const add = (name: string, symbol: ts.Symbol | undefined): void => {
    const target = symbol && symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    const declaration = target?.declarations?.find(ts.isFunctionDeclaration);
    if (!declaration) throw new Error(`methods.ts: "${name}" is not a declared function`);
    found.set(name, declaration);
  };
  const visit = (node: ts.Node): void => {
    if (ts.isVariableDeclaration(node) && node.name.getText() === "methods" && node.initializer)
      for (const entry of (node.initializer as ts.ObjectLiteralExpression).properties) {
        if (ts.isPropertyAssignment(entry))
          add(entry.name.getText(), checker.getSymbolAtLocation(entry.initializer));
        else if (ts.isShorthandPropertyAssignment(entry))
          add(entry.name.text, checker.getShorthandAssignmentValueSymbol(entry));
        else if (ts.isSpreadAssignment(entry)) {
          const [module, ...names] = (entry.expression as ts.CallExpression).arguments;
          const exported = checker.getTypeAtLocation(module!);
          for (const name of names as ts.StringLiteral[]) add(name.text, exported.getProperty(name.text));
        }
      }
    else ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

/** The text of the interface's file. */
export function methodsText(): string {
  const all = program();
  const checker = all.getTypeChecker();
  const imports = new Map<string, Set<string>>();
  /** Notes where the types of a signature come from. */
  const note = (node: ts.Node): void => {
    if (ts.isTypeReferenceNode(node) && ts.isIdentifier(node.typeName)) {
      const symbol = checker.getSymbolAtLocation(node.typeName);
      const target =
        symbol && symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
      const from = target?.declarations?.[0]?.getSourceFile().fileName ?? "";
      if (from.startsWith(`${ROOT}src/`)) {
        const path = `./${relative(dirname(WRITTEN), from).replaceAll("\\", "/")}`;
        imports.set(path, (imports.get(path) ?? new Set()).add(node.typeName.text));
      }
    }
    ts.forEachChild(node, note);
  };
  const parameter = (node: ts.ParameterDeclaration): string => {
    if (node.type) note(node.type);
    const name = ts.isIdentifier(node.name) ? node.name.text : "options";
    const type = node.type?.getText() ?? checker.typeToString(checker.getTypeAtLocation(node));
    if (node.dotDotDotToken) return `...${name}: ${type}`;
    return `${name}${node.questionToken || node.initializer ? "?" : ""}: ${type}`;
  };
  const lines = [...functions(all.getSourceFile(TABLE)!, checker)].map(([name, declaration]) => {
    if (declaration.type) note(declaration.type);
    const documentation = ts.getJSDocCommentsAndTags(declaration).filter(ts.isJSDoc).at(-1)?.getText();
    if (!documentation) throw new Error(`methods.ts: the function behind "${name}" has no documentation`);
    const rest = declaration.parameters.slice(1).map(parameter).join(", ");
    return `${documentation}\n  ${name}(${rest}): ${declaration.type!.getText()};`;
  });
  const header = [...imports]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, names]) => `import type { ${[...names].sort().join(", ")} } from "${path}";`);
  return `/** Written by tools/tensor-methods.ts: the methods of \`Tensor\`, which are the functions of \`methods.ts\`. */
${header.join("\n")}

export interface TensorMethods {
  ${lines.join("\n  ")}
}
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(WRITTEN, methodsText());
