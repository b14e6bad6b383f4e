/** The bundlers that the package is tried with: their versions, what each needs to be told, and where its output lies. */

import { NEXT_FILES } from "./next.ts";

export interface Bundler {
  readonly name: string;
  /** Packages with their exact versions. */
  readonly packages: readonly string[];
  /** Files beside `index.html`, `page.js` and `worker.js`. */
  readonly files: Readonly<Record<string, string>>;
  /** Script and arguments that Node runs there. */
  readonly command: readonly string[];
  /** Folder that is served afterwards; undefined: a server is started. */
  readonly output: string | undefined;
  /** What serves it, after the command; else the command itself does. */
  readonly server?: readonly string[];
  /** Query of the page: `ort` where the runtime's files are served apart. */
  readonly query?: string;
}

const VITE = ["vite@8.3.8"];
/** Module workers, as README says; the port is taken by whoever runs it. */
const VITE_CONFIG = `export default { worker: { format: "es" }, build: { target: "es2022" }, clearScreen: false };\n`;

const WEBPACK_SCRIPT = `import webpack from "webpack";
const page = { entry: "./page.js", mode: "production", devtool: false, performance: { hints: false } };
webpack({ ...page, output: { path: import.meta.dirname + "/out", filename: "page.js" } }, (error, stats) => {
  if (error || stats.hasErrors() || stats.hasWarnings()) {
    console.error(error ?? stats.toString("errors-warnings"));
    process.exitCode = 1;
  }
});
`;

export const BUNDLERS: readonly Bundler[] = [
  {
    name: "vite build",
    packages: VITE,
    files: { "vite.config.mjs": VITE_CONFIG },
    command: ["node_modules/vite/bin/vite.js", "build", "--outDir", "out"],
    output: "out",
  },
  {
    name: "vite dev",
    packages: VITE,
    files: { "vite.config.mjs": VITE_CONFIG },
    command: ["node_modules/vite/bin/vite.js", "--host", "127.0.0.1", "--port", "0"],
    output: undefined,
  },
  {
    name: "webpack",
    packages: ["webpack@5.113.0"],
    files: { "webpack.mjs": WEBPACK_SCRIPT },
    command: ["webpack.mjs"],
    output: "out",
  },
  {
    name: "esbuild",
    packages: ["esbuild@0.28.2"],
    files: {},
    command: [
      ...["node_modules/esbuild/bin/esbuild", "page.js", "worker.js", "--bundle", "--format=esm"],
      ...["--splitting", "--target=es2022", "--log-level=warning", "--outdir=out"],
    ],
    output: "out",
    query: "?ort",
  },
  {
    name: "next",
    packages: ["next@16.4.6", "react@19.2.0", "react-dom@19.2.0"],
    files: NEXT_FILES,
    command: ["node_modules/next/dist/bin/next", "build"],
    output: undefined,
    server: ["node_modules/next/dist/bin/next", "start", "--hostname", "127.0.0.1", "--port", "0"],
  },
];
