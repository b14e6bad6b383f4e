/** Places where the library is loaded and has less around it than in Node or a page. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { posix } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { importsOf } from "../../tools/check-layers.ts";

const source = (path: string): string => new URL(`../../src/${path}`, import.meta.url).href;

async function printed(program: string): Promise<string> {
  const args = ["--import", "tsx", "--input-type=module", "--eval", program];
  return (await promisify(execFile)(process.execPath, args)).stdout.trim();
}

it("the browser's runtime can be imported on a server, without a navigator, and asks for no adapter", async () => {
  const program = `
    let asked = 0;
    const gpu = { requestAdapter: async () => { asked++; return {}; } };
    Object.defineProperty(globalThis, "navigator", { value: undefined, configurable: true });
    const { default: runtime, configureWeb } = await import(${JSON.stringify(source("tensor/runtime/web.ts"))});
    configureWeb({ threads: 1 });
    console.log(runtime.first, (await runtime.threads()).usable, asked);
    Object.defineProperty(globalThis, "navigator", { value: { gpu } });
    console.log(await runtime.devices(), await runtime.devices(), asked);
  `;
  expect(await printed(program)).toBe("wasm 1 0\n[ 'wasm', 'webgpu' ] [ 'wasm', 'webgpu' ] 1");
});

it("files are flushed where a package manager's file system has no FileHandle.sync", async () => {
  const program = `
    import { mkdtemp, open, readFile, rm } from "node:fs/promises";
    import { tmpdir } from "node:os";
    import { join } from "node:path";
    const folder = await mkdtemp(join(tmpdir(), "tweedie-pnp-"));
    const handle = await open(folder, "r");
    Object.getPrototypeOf(handle).sync = () => { throw new Error("Method not implemented."); };
    await handle.close();
    const { writeFileAtomic } = await import(${JSON.stringify(source("io/atomic.ts"))});
    await writeFileAtomic(join(folder, "a"), Buffer.from("whole"));
    console.log(await readFile(join(folder, "a"), "utf8"));
    await rm(folder, { recursive: true });
  `;
  expect(await printed(program)).toBe("whole");
});

describe("what is imported in pages reaches nothing of Node:", () => {
  /** Packages that a file and what it imports need, when bundled for browsers. */
  function packagesOf(entry: string): Set<string> {
    const root = new URL("../../", import.meta.url);
    const { imports } = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as {
      imports: Record<string, { browser: string }>;
    };
    const found = new Set<string>();
    const seen = new Set<string>();
    const visit = (path: string): void => {
      if (seen.has(path)) return;
      seen.add(path);
      const text = readFileSync(new URL(path, root), "utf8").replace(/^(im|ex)port type [^;]*;/gm, "");
      for (const { specifier } of importsOf({ path, text })) {
        if (specifier.startsWith(".")) visit(posix.join(posix.dirname(path), specifier));
        else if (imports[specifier]) visit(posix.normalize(imports[specifier].browser));
        else found.add(specifier);
      }
    };
    visit(entry);
    return found;
  }
  it.each(["src/io/safetensors.ts", "src/tensor/index.ts", "src/nn/train.ts", "src/nn/index.ts"])(
    "%s",
    (entry) => {
      const needed = [...packagesOf(entry)].filter((name) => !name.startsWith("onnxruntime-"));
      expect(needed).toEqual([]);
    },
  );
});
