import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { AbortError, ArgumentError, FormatError } from "../../src/errors.ts";
import { openSafetensors, readSafetensors, writeSafetensors } from "../../src/io/index.ts";
import { parameters } from "../../src/nn/index.ts";
import { loadModel } from "../../src/pipelines/load.ts";
import { saveModel } from "../../src/pipelines/save.ts";
import { cachedSessions, clearEagerCache, storedOf } from "../../src/tensor/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";
import { TINY_TEXT, TINY_UNET, tinyModel, valuesOf } from "./tiny-models.ts";

const at = useTemporaryFolder();
const WEIGHTS = "diffusion_pytorch_model.safetensors";

/** Changes the tensors of a saved network. */
async function edit(path: string, change: (tensors: Map<string, never>) => void): Promise<void> {
  const { tensors, metadata } = await readSafetensors(path);
  change(tensors as Map<string, never>);
  await writeSafetensors(path, tensors, metadata);
}

const messageOf = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(Error);
  return (error as Error).message;
};

describe("a saved network", () => {
  it("is loaded with the same values, class and configuration", async () => {
    const before = tinyModel(TINY_UNET, 1);
    await saveModel(at("unet"), before);
    const after = await loadModel(at("unet"));
    expect(after.className).toBe("UNet2DConditionModel");
    expect(after.config).toEqual(TINY_UNET);
    expect(after.model).toBeInstanceOf(before.model.constructor);
    expect(await valuesOf(after.model)).toEqual(await valuesOf(before.model));
    expect(readdirSync(at("unet")).sort()).toEqual(["config.json", WEIGHTS]);
    expect((await readSafetensors(at("unet", WEIGHTS))).metadata.get("format")).toBe("pt");
  });

  it("is split into shards above a size, and loaded from them", async () => {
    const before = tinyModel(TINY_TEXT, 2);
    await saveModel(at("text"), before, { maxShardBytes: 20_000 });
    expect(readdirSync(at("text")).filter((n) => n.endsWith(".safetensors")).length).toBeGreaterThan(2);
    expect(readdirSync(at("text"))).toContain("model.safetensors.index.json");
    expect(JSON.parse(readFileSync(at("text", "config.json"), "utf8")).architectures).toEqual([
      "CLIPTextModel",
    ]);
    expect(await valuesOf((await loadModel(at("text"))).model)).toEqual(await valuesOf(before.model));
  });

  it("is found by its variant, and half precision is taken when there is nothing else", async () => {
    const [full, half] = [tinyModel(TINY_TEXT, 1), tinyModel(TINY_TEXT, 2)];
    await saveModel(at("full"), full);
    await saveModel(at("text"), half, { dtype: "f16", variant: "fp16" });
    const only = await valuesOf((await loadModel(at("text"))).model);
    renameSync(at("full", "model.safetensors"), at("text", "model.safetensors"));
    expect(await valuesOf((await loadModel(at("text"), { variant: "fp16" })).model)).toEqual(only);
    expect(await valuesOf((await loadModel(at("text"))).model)).toEqual(await valuesOf(full.model));
  });

  it("replaces a folder only when that is allowed, and then as a whole", async () => {
    const model = tinyModel(TINY_TEXT, 1);
    await saveModel(at("text"), model);
    writeFileSync(at("text", "stale.txt"), "");
    await expect(saveModel(at("text"), model)).rejects.toThrow(ArgumentError);
    await saveModel(at("text"), model, { overwrite: true });
    expect(readdirSync(at("text")).sort()).toEqual(["config.json", "model.safetensors"]);
    expect(readdirSync(at())).toEqual(["text"]); // no temporary folder is left
  });

  it("leaves nothing behind when writing fails", async () => {
    const model = { ...tinyModel(TINY_TEXT, 1), className: "Unheard" };
    await expect(saveModel(at("text"), model)).rejects.toThrow(FormatError);
    expect(readdirSync(at())).toEqual([]);
  });
});

describe("half-precision weights", () => {
  it("stay half in memory and in what is saved again, and count as f32 for who uses them", async () => {
    await saveModel(at("half"), tinyModel(TINY_TEXT, 1), { dtype: "f16" });
    const { model, ...rest } = await loadModel(at("half"));
    for (const t of parameters(model).values()) {
      expect(t.dtype).toBe("f32");
      expect(storedOf(t).dtype).toBe("f16");
      expect(t.value).toBeUndefined();
    }
    await saveModel(at("again"), { model, ...rest });
    expect(readFileSync(at("again", "model.safetensors"))).toEqual(
      readFileSync(at("half", "model.safetensors")),
    );
  });

  it("are widened once when full precision is asked for, without a session", async () => {
    await saveModel(at("half"), tinyModel(TINY_TEXT, 1), { dtype: "f16" });
    await clearEagerCache();
    const { model } = await loadModel(at("half"), { precision: "f32" });
    for (const t of parameters(model).values()) expect(storedOf(t)).toBe(t);
    expect(cachedSessions()).toBe(0);
    expect(await valuesOf(model)).toEqual(await valuesOf((await loadModel(at("half"))).model));
  });

  it("of bf16 are widened exactly", async () => {
    await saveModel(at("text"), tinyModel(TINY_TEXT, 1), { dtype: "bf16" });
    const file = await openSafetensors(at("text", "model.safetensors"));
    expect([...file.entries.values()].every(({ dtype }) => dtype === "BF16")).toBe(true);
    await file.close();
    const { model } = await loadModel(at("text"));
    const rounded = Object.values(await valuesOf(model)).flat();
    const bits = new Uint32Array(Float32Array.from(rounded).buffer);
    expect(bits.every((b) => (b & 0xffff) === 0)).toBe(true);
  });
});

describe("older names", () => {
  it("without the outer name of the text model are taken", async () => {
    const before = tinyModel(TINY_TEXT, 1);
    await saveModel(at("text"), before);
    await edit(at("text", "model.safetensors"), (tensors) => {
      for (const [name, t] of [...tensors]) {
        tensors.delete(name);
        tensors.set(name.replace("text_model.", ""), t);
      }
      tensors.set("embeddings.position_ids", {
        dtype: "i64",
        shape: [1],
        data: new BigInt64Array(1),
      } as never);
    });
    expect(await valuesOf((await loadModel(at("text"))).model)).toEqual(await valuesOf(before.model));
  });
});

describe("weights that do not fit", () => {
  it("are listed by name: missing, unexpected, of another shape", async () => {
    await saveModel(at("unet"), tinyModel(TINY_UNET, 1));
    await edit(at("unet", WEIGHTS), (tensors) => {
      tensors.delete("conv_in.bias");
      tensors.set("extra.weight", tensors.get("conv_out.bias")!);
      tensors.set("conv_norm_out.bias", tensors.get("conv_out.bias")!);
    });
    const message = await messageOf(loadModel(at("unet")));
    expect(message).toContain("3 problems, nothing was loaded");
    expect(message).toContain('missing "conv_in.bias": expected [8]');
    expect(message).toContain('unexpected "extra.weight": got F32 [4]');
    expect(message).toContain('wrong "conv_norm_out.bias": expected [8], got F32 [4]');
  });

  it("are listed up to a bound", async () => {
    await saveModel(at("unet"), tinyModel(TINY_UNET, 1));
    await edit(at("unet", WEIGHTS), (tensors) => tensors.clear());
    const message = await messageOf(loadModel(at("unet")));
    expect(message).toMatch(/686 problems.*nothing was loaded/);
    expect(message).toContain("… and 666 more");
    expect(message.split("\n").length).toBe(22);
  });

  it("of integers are refused", async () => {
    await saveModel(at("unet"), tinyModel(TINY_UNET, 1));
    await edit(at("unet", WEIGHTS), (tensors) =>
      tensors.set("conv_in.bias", { dtype: "i32", shape: [8], data: new Int32Array(8) } as never),
    );
    expect(await messageOf(loadModel(at("unet")))).toContain(
      'wrong "conv_in.bias": expected [8], got I32 [8]',
    );
  });
});

describe("a model's folder", () => {
  const config = (value: unknown) => {
    mkdirSync(at("m"), { recursive: true });
    writeFileSync(at("m", "config.json"), typeof value === "string" ? value : JSON.stringify(value));
  };

  it("of an unknown class is refused by a list of the known ones; nothing is imported by name", async () => {
    for (const name of ["EvilModel", "../../../evil", "constructor", "__proto__", "toString"]) {
      config({ _class_name: name });
      const message = await messageOf(loadModel(at("m")));
      expect(message).toContain("UNet2DConditionModel");
      expect(message).toContain(JSON.stringify(name));
    }
    config({ block_out_channels: [8] });
    expect(await messageOf(loadModel(at("m")))).toContain("got no class name");
  });

  it("with a configuration that cannot be is refused by the key", async () => {
    await saveModel(at("m"), tinyModel(TINY_UNET, 1));
    for (const [key, value] of [
      ["norm_num_groups", 3],
      ["block_out_channels", []],
      ["layers_per_block", -1],
      ["attention_head_dim", 50],
      ["cross_attention_dim", "many"],
      ["down_block_types", ["os.system"]],
    ] as const) {
      config({ ...TINY_UNET, [key]: value });
      expect(await messageOf(loadModel(at("m"))), key).toMatch(new RegExp(key));
    }
  });

  it("with text that is not its configuration says what it is", async () => {
    config("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    expect(await messageOf(loadModel(at("m")))).toContain("git-LFS pointer");
    config("<!DOCTYPE html><html></html>");
    expect(await messageOf(loadModel(at("m")))).toContain("web page");
    config("{");
    expect(await messageOf(loadModel(at("m")))).toContain("does not parse");
    config("[1]");
    expect(await messageOf(loadModel(at("m")))).toContain("expected a JSON object");
  });

  it("with weights in disguise says what they are, and what to do", async () => {
    await saveModel(at("m"), tinyModel(TINY_UNET, 1));
    for (const [bytes, said] of [
      ["version https://git-lfs.github.com/spec/v1\n", "git lfs pull"],
      ["<html><body>404</body></html>", "web page"],
      ["PK\x03\x04archive/data.pkl", "never parsed here"],
      ["", "empty"],
    ] as const) {
      writeFileSync(at("m", WEIGHTS), bytes);
      expect(await messageOf(loadModel(at("m")))).toContain(said);
    }
  });

  it("with pickles only, or nothing, says what to download", async () => {
    await saveModel(at("m"), tinyModel(TINY_UNET, 1));
    rmSync(at("m", WEIGHTS));
    expect(await messageOf(loadModel(at("m")))).toContain("expected diffusion_pytorch_model.safetensors");
    writeFileSync(at("m", "diffusion_pytorch_model.bin"), "x");
    expect(await messageOf(loadModel(at("m")))).toContain("Download the .safetensors files");
    expect(await messageOf(loadModel(at("nowhere")))).toContain("no such file or folder");
  });

  it("whose shards are incomplete, or leave the folder, is refused", async () => {
    await saveModel(at("m"), tinyModel(TINY_TEXT, 1), { maxShardBytes: 20_000 });
    const index = at("m", "model.safetensors.index.json");
    const text = readFileSync(index, "utf8");
    writeFileSync(index, text.replaceAll("model-00001-of", "../model-00001-of"));
    await expect(loadModel(at("m"))).rejects.toThrow(FormatError);
    writeFileSync(index, text);
    rmSync(at("m", readdirSync(at("m")).find((n) => n.startsWith("model-00002"))!));
    expect(await messageOf(loadModel(at("m")))).toContain("the shard is missing");
  });
});

describe("loading", () => {
  it("tells how far it is, and stops when asked to", async () => {
    await saveModel(at("m"), tinyModel(TINY_TEXT, 1));
    const seen: [number, number][] = [];
    await loadModel(at("m"), { onProgress: (read, total) => seen.push([read, total]) });
    const [read, total] = seen.at(-1)!;
    expect(read).toBe(total);
    expect(seen.every(([r], i) => i === 0 || r > seen[i - 1]![0])).toBe(true);
    await expect(loadModel(at("m"), { signal: AbortSignal.abort() })).rejects.toThrow(AbortError);
  });
});
