/**
 * Builds dist/: one module per source file, ESM and declarations. What is public is said once, in package.json's
 * `exports` and `bin`; the entry points are read from there.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { defineConfig } from "tsdown";

const manifest = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"));

/** What stands behind a name that begins with #, in browsers and elsewhere. */
type Imports = Record<string, { browser: string; default: string }>;
const inDist = (source: string): string => source.replace("./src/", "./").replace(/\.ts$/, ".js");

const targets: string[] = [
  ...Object.values<string | { default: string }>(manifest.exports).map((e) =>
    typeof e === "string" ? e : e.default,
  ),
  ...Object.values<string>(manifest.bin ?? {}),
];
const entry = Object.fromEntries(
  targets
    .filter((path) => path.startsWith("./dist/"))
    .map((path) => path.slice("./dist/".length, -".js".length))
    .concat(
      Object.values(manifest.imports as Imports)
        .flatMap(Object.values)
        .map((path) => path.slice("./src/".length, -".ts".length)),
    ) // #runtime, #node …
    .concat("cli/main") // what bin/tweedie.mjs starts
    .concat("cli/start") // the tour, for whoever has only the package
    .concat(
      "data/sample-source",
      "workers/thread",
      "studio/catalog",
      "studio/server/worker",
      "systems/q-dit/peak-memory",
    ) // started by address, imported by nobody
    .map((name) => [name, `src/${name}.ts`]),
);
for (const source of Object.values(entry)) {
  if (!existsSync(new URL(source, import.meta.url)))
    throw new Error(`package.json exports ${source.replace(/^src|\.ts$/g, "")}, but ${source} is not there`);
}

/**
 * What begins with # is looked up in the nearest package.json: the repository's maps it to src, this one to dist. So neither
 * tsx, vitest, Node nor a bundler needs a condition of its own.
 */
const scope = {
  type: "module",
  sideEffects: ["./tensor/index.js"],
  imports: Object.fromEntries(
    Object.entries(manifest.imports as Imports).map(([name, { browser, default: node }]) => [
      name,
      { browser: inDist(browser), default: inDist(node) },
    ]),
  ),
};

export default defineConfig({
  entry,
  outDir: "dist",
  tsconfig: "tsconfig.build.json",
  format: "esm",
  platform: "neutral",
  target: "es2022",
  unbundle: true,
  fixedExtension: false,
  dts: true,
  deps: { neverBundle: [/^#/, /^onnxruntime-/, /^node:/, "sharp", /^@huggingface\//] },
  onSuccess: () => writeFileSync("dist/package.json", `${JSON.stringify(scope, null, 2)}\n`),
});
