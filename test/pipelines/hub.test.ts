import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { cachedModels, hubCacheFolder, parseHubId, resolveModelPath } from "../../src/pipelines/hub.ts";
import { wantedFiles } from "../../src/pipelines/hub-files.ts";
import { loadModel, loadPipelineComponents } from "../../src/pipelines/load.ts";
import { savePipeline } from "../../src/pipelines/save.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";
import { fakeHub } from "./fake-hub.ts";
import { tinySd, valuesOf } from "./tiny-models.ts";

const at = useTemporaryFolder();
const none: typeof fetch = () => Promise.reject(new Error("the network was used"));

beforeEach(() => {
  for (const name of ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"]) vi.stubEnv(name, undefined);
  vi.stubEnv("HF_HOME", at("home")); // no token of the machine is read
  vi.spyOn(console, "debug").mockImplementation(() => undefined); // the client tells of its downloads
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

/** All files below a folder. */
const filesOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((e) => !e.isDirectory())
    .map((e) => relative(folder, join(e.parentPath, e.name)))
    .sort();

async function published() {
  const pipeline = tinySd();
  await savePipeline(at("sd"), pipeline, { dtype: "f16" });
  const files = new Map(
    filesOf(at("sd")).map((name) => [name, new Uint8Array(readFileSync(at("sd", name)))]),
  );
  files.set("README.md", new Uint8Array(1));
  files.set("unet/diffusion_pytorch_model.bin", new Uint8Array(3));
  files.set("v1-5-pruned.safetensors", new Uint8Array(3));
  files.set("safety_checker/model.safetensors", new Uint8Array(3));
  return { pipeline, hub: fakeHub("some/model", files) };
}

describe("names of the hub", () => {
  it("have a revision and a path, and cannot leave the cache", () => {
    expect(parseHubId("folder/file.safetensors")).toBeUndefined();
    expect(parseHubId("hub:a/b")).toEqual({ repo: "a/b", revision: "main", path: "" });
    expect(parseHubId("hub:a/b@v1.0/unet")).toEqual({ repo: "a/b", revision: "v1.0", path: "unet" });
    expect(parseHubId("hub:a/b/x/y.safetensors")?.path).toBe("x/y.safetensors");
    for (const bad of [
      "hub:a",
      "hub:../b",
      "hub:a/..",
      "hub:a/b@..",
      "hub:a/b/../../x",
      "hub:/a/b",
      "hub:a/b@",
    ])
      expect(() => parseHubId(bad), bad).toThrow(ArgumentError);
  });

  it("lie where the hub's own tools keep them", () => {
    expect(hubCacheFolder({ HF_HUB_CACHE: "/c" })).toBe("/c");
    expect(hubCacheFolder({ HF_HOME: "/h" })).toBe(join("/h", "hub"));
    expect(hubCacheFolder({ XDG_CACHE_HOME: "/x" })).toBe(join("/x", "huggingface", "hub"));
    expect(hubCacheFolder({})).toMatch(/\.cache[/\\]huggingface[/\\]hub$/);
  });
});

describe("a model of the hub", () => {
  it("is never fetched unless that is asked for", async () => {
    const options = { cacheDir: at("cache"), fetch: none };
    await expect(loadPipelineComponents("hub:some/model", options)).rejects.toThrow("not in the cache");
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    await expect(resolveModelPath("hub:some/model", { ...options, download: true })).rejects.toThrow(
      "HF_HUB_OFFLINE forbids",
    );
  });

  it("is downloaded once, without what is not needed, and loaded from the cache afterwards", async () => {
    const { pipeline, hub } = await published();
    const cacheDir = at("cache");
    const seen: string[] = [];
    const loaded = await loadPipelineComponents("hub:some/model", {
      cacheDir,
      fetch: hub.fetch,
      download: true,
      token: "hf_secret",
      onFile: (path) => seen.push(path),
    });
    expect(loaded.unet?.config).toEqual(pipeline.unet?.config);
    expect(hub.tokens).toEqual(new Set(["Bearer hf_secret"]));
    expect(seen).toContain("unet/diffusion_pytorch_model.safetensors");
    const root = join(cacheDir, "models--some--model");
    expect(filesOf(join(root, "snapshots", hub.commit))).toEqual([...seen].sort());
    expect(seen.filter((path) => /bin|pruned|safety|README/.test(path))).toEqual([]);
    expect(readFileSync(join(root, "refs", "main"), "utf8")).toBe(hub.commit);

    const offline = { cacheDir, fetch: none };
    const again = await loadPipelineComponents("hub:some/model", offline);
    expect(await valuesOf(again.vae!.model)).toEqual(await valuesOf(loaded.vae!.model));
    const pinned = await loadModel(`hub:some/model@${hub.commit}/unet`, offline);
    expect(pinned.className).toBe("UNet2DConditionModel");
    // Asked to download without a network: what is there serves.
    expect(await resolveModelPath("hub:some/model", { ...offline, download: true })).toContain(hub.commit);
    expect(await cachedModels(cacheDir)).toEqual([
      { repo: "some/model", snapshots: [join(root, "snapshots", hub.commit)] },
    ]);
  });

  it("takes its token from the environment or the login file", async () => {
    const { hub } = await published();
    mkdirSync(at("home"));
    writeFileSync(at("home", "token"), "hf_file\n");
    const options = { cacheDir: at("cache"), fetch: hub.fetch, download: true };
    await resolveModelPath("hub:some/model", options);
    expect(hub.tokens).toEqual(new Set(["Bearer hf_file"]));
    hub.tokens.clear();
    vi.stubEnv("HF_TOKEN", "hf_env");
    await resolveModelPath("hub:some/model", options);
    expect(hub.tokens).toEqual(new Set(["Bearer hf_env"]));
  });

  it("that is not there, or has no safetensors, is an error that says so, and leaves no name behind", async () => {
    const { hub } = await published();
    const options = { cacheDir: at("cache"), fetch: hub.fetch, download: true };
    await expect(resolveModelPath("hub:some/other", options)).rejects.toThrow("HF_TOKEN");
    const pickles = fakeHub("some/pickles", new Map([["unet/model.bin", new Uint8Array(1)]]));
    await expect(resolveModelPath("hub:some/pickles", { ...options, fetch: pickles.fetch })).rejects.toThrow(
      "no safetensors weights among its 1 files",
    );
    expect(existsSync(at("cache", "models--some--pickles"))).toBe(false);
  });

  it("in one file is downloaded alone", async () => {
    const { hub } = await published();
    const path = await resolveModelPath("hub:some/model/v1-5-pruned.safetensors", {
      cacheDir: at("cache"),
      fetch: hub.fetch,
      download: true,
    });
    expect(statSync(path).size).toBe(3);
    expect(filesOf(join(path, ".."))).toEqual(["v1-5-pruned.safetensors"]);
  });
});

describe("the files of a repository", () => {
  const repository = [
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "onnx/unet/model.safetensors",
  ];

  it("are those of one variant", () => {
    const unet = (variant?: string) =>
      wantedFiles(repository, "", variant).filter((p) => /^unet.*(?:safetensors|index)/.test(p));
    expect(unet()).toEqual(repository.slice(2, 5));
    expect(unet("fp16")).toEqual(["unet/diffusion_pytorch_model.fp16.safetensors"]);
    expect(wantedFiles(repository, "", "fp16")).toContain("vae/diffusion_pytorch_model.safetensors");
    expect(wantedFiles(repository)).not.toContain("onnx/unet/model.safetensors");
    expect(wantedFiles(repository, "vae")).toEqual([
      "vae/config.json",
      "vae/diffusion_pytorch_model.safetensors",
    ]);
  });
});
