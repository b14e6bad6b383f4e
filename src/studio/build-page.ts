/** Builds the page with Vite: `npm run build`, and by itself when the studio is started from its sources. */
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const page = fileURLToPath(new URL("./page/", import.meta.url));

/** Writes the page into a folder, which appears whole. Needs Vite and Svelte, which only the repository has. */
export async function buildPage(outDir: string): Promise<void> {
  const [{ build }, { svelte }] = await Promise.all([import("vite"), import("@sveltejs/vite-plugin-svelte")]);
  await mkdir(dirname(outDir), { recursive: true });
  const fresh = `${outDir}.${process.pid}`;
  await build({
    root: page,
    configFile: false,
    logLevel: "error", // timings of the build are nothing for people who want to see the page
    plugins: [svelte({ configFile: false, compilerOptions: { runes: true } })],
    build: {
      outDir: fresh,
      emptyOutDir: true,
      target: "es2022",
      reportCompressedSize: false,
      modulePreload: { polyfill: false },
      assetsInlineLimit: 0,
    },
  });
  await rename(fresh, outDir).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST" && error.code !== "EPERM") throw error;
    await rm(fresh, { recursive: true, force: true }); // another process was faster
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const outDir = fileURLToPath(new URL("../../dist/studio/page", import.meta.url));
  await rm(outDir, { recursive: true, force: true });
  await buildPage(outDir);
}
