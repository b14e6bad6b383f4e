/**
 * Dependencies between the rooms of src/ point downwards, and no files import each other in a circle: `npm run layers`.
 * Fails with file:line and the rule; files that outgrow a few screens are mentioned without failing.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative, sep } from "node:path";
import { pathToFileURL } from "node:url";
import ts from "typescript";

/**
 * Low to high: a room imports itself and the rooms before it. `geometry` lies below `data`, because the scene world
 * is drawn with its cameras; `work` lies right above `io`, whose pictures it tells of, so that every room that works long
 * can use its words; `cli` lies on top, because `tweedie studio` starts the studio.
 */
export const ROOMS = [
  "errors",
  "disguise",
  "platform",
  "tensor",
  "io",
  "workers",
  "work",
  "nn",
  "geometry",
  "diffusion",
  "networks",
  "pipelines",
  "data",
  "metrics",
  "report",
  "training",
  "study",
  "systems",
  "trainings",
  "tour",
  "studio",
  "cli",
  "index",
] as const;

/**
 * Rooms that bundlers take for browsers: only their files called `node.ts` or `*.node.ts` may need Node, and the others
 * what `#node` and `#sharp` (src/platform) give them.
 */
const BROWSER_ROOMS = new Set([
  "errors",
  "disguise",
  "platform",
  "tensor",
  "io",
  "work",
  "nn",
  "geometry",
  "diffusion",
  "networks",
  "pipelines",
  "data",
  "metrics",
  "report",
  "training",
]);
const NODE_ONLY = /^(node:|onnxruntime-node$|sharp$)/;

export const MAX_LINES = 420;

/** A file of src/: path with forward slashes from the repository root, and its text. */
export interface SourceText {
  readonly path: string;
  readonly text: string;
}

export interface Finding {
  readonly path: string;
  readonly line: number;
  readonly rule: string;
}

interface Import {
  readonly specifier: string;
  readonly line: number;
  /** `import()` at run time: bundlers leave it alone until it is reached. */
  readonly deferred: boolean;
}

/** Everything a file imports or re-exports, types and `import()` included. */
export function importsOf({ path, text }: SourceText): Import[] {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (node: ts.Node | undefined, deferred: boolean): void => {
    if (!node || !ts.isStringLiteralLike(node)) return;
    const { line } = file.getLineAndCharacterOfPosition(node.getStart(file));
    found.push({ specifier: node.text, line: line + 1, deferred });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) add(node.moduleSpecifier, false);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
      add(node.argument.literal, true);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node.arguments[0], true);
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

/** The room of a path below src/: its folder, or the file's own name for src/errors.ts and src/index.ts. */
const roomOf = (path: string): string => path.split("/")[1]!.replace(/\.tsx?$/, "");

/** The system that a file belongs to; undefined for what systems share (src/systems/system.ts). */
function systemOf(path: string): string | undefined {
  const [, room, system, ...rest] = path.split("/");
  return room === "systems" && rest.length > 0 ? system : undefined;
}

function ruleBroken(path: string, { specifier, deferred }: Import): string | undefined {
  const room = roomOf(path);
  if (!specifier.startsWith(".")) {
    if (!deferred && NODE_ONLY.test(specifier) && BROWSER_ROOMS.has(room) && !/[/.]node\.tsx?$/.test(path))
      return `"${room}" runs in the browser too: only a file called node.ts or *.node.ts may import "${specifier}"`;
    if (specifier === "tweedie" || specifier.startsWith("tweedie/"))
      return `the package does not import itself by name ("${specifier}"): use a relative path`;
    return undefined;
  }
  const target = targetOf(path, specifier)!;
  if (!target.startsWith("src/"))
    return target === "package.json" ? undefined : `src imports only from src, got "${specifier}"`;

  const [rank, targetRoom] = [ROOMS.indexOf(room as never), roomOf(target)];
  const targetRank = ROOMS.indexOf(targetRoom as never);
  if (targetRank < 0) return `"${targetRoom}" is not a room; rooms are ${ROOMS.join(", ")}`;
  if (targetRank > rank)
    return `"${room}" must not import "${targetRoom}": dependencies point downwards (${ROOMS.join(" < ")})`;

  const [mine, theirs] = [systemOf(path), systemOf(target)];
  if (mine && theirs && mine !== theirs)
    return `system "${mine}" must not import system "${theirs}": share through the rooms below`;
  if (mine && /^src\/systems\/index\.tsx?$/.test(target))
    return `system "${mine}" must not import the list of all systems`;
  return undefined;
}

/** Every import that breaks a rule. */
export function checkLayers(files: readonly SourceText[]): Finding[] {
  return files.flatMap((file) => {
    const { path } = file;
    if (!ROOMS.includes(roomOf(path) as never)) {
      return [{ path, line: 1, rule: `"${roomOf(path)}" is not a room; rooms are ${ROOMS.join(", ")}` }];
    }
    return importsOf(file).flatMap((imported) => {
      const rule = ruleBroken(path, imported);
      return rule ? [{ path, line: imported.line, rule }] : [];
    });
  });
}

/** The file of src/ that an import names; undefined for packages. */
const targetOf = (path: string, specifier: string): string | undefined =>
  specifier.startsWith(".") ? posix.normalize(posix.join(posix.dirname(path), specifier)) : undefined;

/** Files that import each other in a circle, types included: one finding for each import that closes one. */
export function checkCircles(files: readonly SourceText[]): Finding[] {
  const imports = new Map(files.map((file) => [file.path, importsOf(file)]));
  const found: Finding[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    if (done.has(path)) return;
    for (const { specifier, line } of imports.get(path) ?? []) {
      const target = targetOf(path, specifier);
      if (target === undefined) continue;
      const way = [...trail, path];
      if (way.includes(target)) {
        const circle = [...way.slice(way.indexOf(target)), target];
        found.push({ path, line, rule: `imports in a circle: ${circle.join(" > ")}` });
      } else visit(target, way);
    }
    done.add(path);
  };
  for (const { path } of files) visit(path, []);
  return found;
}

/** Files of more than `MAX_LINES` lines. */
export function checkLengths(files: readonly SourceText[]): Finding[] {
  return files.flatMap(({ path, text }) => {
    const lines = text.replace(/\n$/, "").split("\n").length;
    return lines > MAX_LINES
      ? [{ path, line: MAX_LINES + 1, rule: `${lines} lines; about ${MAX_LINES} at most, so split it` }]
      : [];
  });
}

/** All TypeScript files below a folder. */
export function readSources(root: string, folder: string): SourceText[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => ({
      path: relative(root, path).split(sep).join("/"),
      text: readFileSync(path, "utf8"),
    }));
}

function main(): void {
  const files = readSources(process.cwd(), "src");
  const broken = [...checkLayers(files), ...checkCircles(files)];
  const show = ({ path, line, rule }: Finding): string => `${path}:${line}: ${rule}`;
  for (const finding of checkLengths(files)) console.warn(`note: ${show(finding)}`);
  for (const finding of broken) console.error(show(finding));
  console.log(`layers: ${files.length} files, ${broken.length} broken rules`);
  if (broken.length > 0) process.exitCode = 1;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) main();
