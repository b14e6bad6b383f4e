/** Bundles the test page as an application would be, and serves it cross-origin isolated (so that wasm has threads). */
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { type Site, serve } from "./serve.ts";

export type { Site } from "./serve.ts";

/** The page of this folder, bundled. `/ort/` serves onnxruntime-web's own files, for `configureWeb({ wasmPaths })`. */
export async function openSite(): Promise<Site> {
  const outDir = await mkdtemp(join(tmpdir(), "tweedie-browser-"));
  await build({
    root: fileURLToPath(new URL(".", import.meta.url)),
    configFile: false,
    logLevel: "warn",
    build: {
      outDir,
      emptyOutDir: true,
      minify: false,
      reportCompressedSize: false,
      chunkSizeWarningLimit: 1e5,
      target: "es2022",
      modulePreload: { polyfill: false }, // it wants a document, which the threads of the runtime have not
    },
  });
  const ort = fileURLToPath(new URL("../../node_modules/onnxruntime-web/dist/", import.meta.url));
  const site = await serve({ "/": outDir, "/ort/": ort });
  return {
    ...site,
    close: async () => {
      await site.close();
      rmSync(outDir, { recursive: true, force: true });
    },
  };
}
