/**
 * The packed package in bundles for browsers: `npm run bundles [-- NAME …]`, after `npm run package`. A page that uses every
 * entry for browsers is built by each bundler and run in Chromium; and Node imports every entry, which must do nothing
 * else. One line for each; exit code 1 when one fails.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser } from "playwright-core";
import ts from "typescript";
import { findChromium, startChromium } from "../../test/browser/chromium.ts";
import { serve } from "../../test/browser/serve.ts";
import { packedTarball } from "../runtimes/package.ts";
import { install, run } from "../runtimes/processes.ts";
import { BUNDLERS, type Bundler } from "./bundlers.ts";
import { importScript } from "./imports.ts";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const PAGE = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="module" src="./page.js"></script>\n`;

/** What the page leaves behind. */
interface Outcome {
  readonly checks: number;
  readonly failed: readonly string[];
}

/** A page's folder, with the package and the bundler installed. */
async function prepare(folder: string, { packages, files }: Bundler): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }\n');
  await install(folder, [await packedTarball(), ...packages]);
  await writeFile(join(folder, "index.html"), PAGE);
  for (const name of ["page", "worker"]) {
    const source = await readFile(join(HERE, `${name}.ts`), "utf8");
    const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
    await writeFile(join(folder, `${name}.js`), ts.transpileModule(source, { compilerOptions }).outputText);
  }
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
}

/** Opens the page and waits for what it leaves. @throws with the page's errors */
async function runPage(browser: Browser, url: string): Promise<Outcome> {
  const tab = await browser.newPage();
  const errors: string[] = [];
  try {
    const broken = new Promise<never>((_, reject) => {
      tab.on("pageerror", (error) => reject(error));
      tab.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    });
    broken.catch(() => {}); // told by the race, or too late to matter
    await tab.goto(url);
    const done = tab.waitForFunction(() => "bundle" in globalThis, undefined, { timeout: 300_000 });
    await Promise.race([done, broken]);
    const outcome = await tab.evaluate(() => (globalThis as unknown as { bundle: Outcome }).bundle);
    return { ...outcome, failed: [...outcome.failed, ...errors.map((text) => `console: ${text}`)] };
  } catch (error) {
    throw new Error([(error as Error).message, ...errors].join("\n"));
  } finally {
    await tab.close();
  }
}

/** Address that a starting server prints. */
function addressOf(server: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    const read = (data: unknown): void => {
      // biome-ignore lint/suspicious/noControlCharactersInRegex: colours of terminals
      output = `${output}${data}`.replace(/\x1b\[[0-9;]*m/g, "");
      const address = output.match(/http:\/\/127\.0\.0\.1:\d+/)?.[0];
      if (address) resolve(address);
    };
    server.stdout?.on("data", read);
    server.stderr?.on("data", read);
    server.on("close", () => reject(new Error(`the server ended:\n${output}`)));
  });
}

async function served<R>(folder: string, bundler: Bundler, use: (url: string) => Promise<R>): Promise<R> {
  const { command, output, server: starts = command, query = "" } = bundler;
  if (starts !== command || output !== undefined) {
    const built = await run(process.execPath, command, { cwd: folder });
    if (built.code !== 0) throw new Error(`it cannot be built:\n${built.output}`);
  }
  if (output === undefined) {
    const server = spawn(process.execPath, starts, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    try {
      return await use(await addressOf(server));
    } finally {
      server.kill();
    }
  }
  if (!existsSync(join(folder, output, "index.html")))
    await cp(join(folder, "index.html"), join(folder, output, "index.html"));
  const site = await serve({
    "/": join(folder, output),
    "/ort/": join(folder, "node_modules/onnxruntime-web/dist"),
  });
  try {
    return await use(`${site.url}${query}`);
  } finally {
    await site.close();
  }
}

/** Every entry, imported by Node: without a word, a global, a listener, or something that keeps the process. */
async function importAll(folder: string): Promise<string> {
  await writeFile(join(folder, "imports.js"), await importScript(join(folder, "node_modules/tweedie")));
  const { code, output } = await run(process.execPath, ["imports.js"], { cwd: folder });
  if (code !== 0 || output !== "") throw new Error(`ended with ${code}, said:\n${output}`);
  return "";
}

async function main(names: readonly string[]): Promise<void> {
  const chosen = BUNDLERS.filter(({ name }) => names.length === 0 || names.includes(name));
  if (chosen.length < names.length)
    throw new Error(`expected bundlers of ${BUNDLERS.map((b) => `"${b.name}"`).join(", ")}, got ${names}`);
  const chromium = findChromium();
  if (!chromium) throw new Error("expected a Chromium; name one in CHROMIUM_PATH");
  const base = await mkdtemp(join(tmpdir(), "tweedie-bundles-"));
  const browser = await startChromium(chromium, { webgpu: false });
  const failed: string[] = [];
  const attempt = async (name: string, work: () => Promise<string>): Promise<void> => {
    try {
      console.log(`${name.padEnd(16)} ok      ${await work()}`);
    } catch (error) {
      failed.push(name);
      console.log(`${name.padEnd(16)} FAILED\n${(error as Error).message.trimEnd().replace(/^/gm, "  | ")}`);
    }
  };
  try {
    for (const bundler of chosen) {
      const folder = join(base, bundler.name.replace(" ", "-"));
      await prepare(folder, bundler);
      await attempt(bundler.name, () =>
        served(folder, bundler, async (url) => {
          const outcome = await runPage(browser, url);
          if (outcome.failed.length > 0) throw new Error(outcome.failed.join("\n"));
          return `${outcome.checks} checks`;
        }),
      );
      if (bundler === chosen[0]) await attempt("imports in Node", () => importAll(folder));
    }
  } finally {
    await browser.close();
    await rm(base, { recursive: true, force: true });
  }
  if (failed.length > 0) throw new Error(`${failed.length} failed: ${failed.join(", ")}`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`bundles: ${(error as Error).message}`);
  process.exitCode = 1;
}
