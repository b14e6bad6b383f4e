import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type HostTensor, safetensorsName, writeSafetensors } from "../../../src/io/index.ts";
import { blankRng, parameters } from "../../../src/nn/index.ts";
import { vaeRules } from "../../../src/pipelines/key-maps/stable-diffusion.ts";
import { renamed, weightsInMemory } from "../../../src/pipelines/weights.ts";
import { openModel } from "../../../src/systems/sdseg/actions.ts";
import { createSDSeg, PRESETS, SDSeg, type SDSegConfig } from "../../../src/systems/sdseg/model.ts";
import {
  withAutoencoderWeights,
  withDenoiserWeights,
  withTrainedWeights,
} from "../../../src/systems/sdseg/official.ts";
import type { Tensor } from "../../../src/tensor/index.ts";

/** The published structure with few channels. */
const small: SDSegConfig = {
  ...PRESETS.paper,
  autoencoder: { channels: [8, 16, 16, 16], layers: 2, groups: 8, latentChannels: 4, attention: true },
  vision: { channels: [8, 16, 16, 16], layers: 2, groups: 8, dropout: 0.2, attention: true },
  unet: { ...PRESETS.paper.unet, channels: 8, groups: 8, heads: 2 },
};

async function hosts(module: object): Promise<Map<string, HostTensor>> {
  const found = new Map<string, HostTensor>();
  for (const [key, t] of parameters(module))
    found.set(key, { dtype: "f32", shape: t.shape, data: await t.data() });
  return found;
}

/** A module's weights under the names of CompVis' code. */
async function compVis(module: object, prefix: string): Promise<Map<string, HostTensor>> {
  const source = weightsInMemory(await hosts(module), ({ dtype, shape }) => ({
    dtype: safetensorsName(dtype),
    shape,
  }));
  const original = renamed(source, { rules: vaeRules(4, 2), to: "original" });
  expect(original.unknown).toEqual([]);
  const found = new Map<string, HostTensor>();
  for (const name of original.entries.keys()) found.set(prefix + name, await original.read(name));
  return found;
}

const prefixed = (tensors: ReadonlyMap<string, HostTensor>, prefix: string): Map<string, HostTensor> =>
  new Map([...tensors].map(([name, t]) => [prefix + name, t]));

async function expectSame(a: object, b: object): Promise<void> {
  const expected = parameters(b);
  for (const [key, t] of parameters(a)) expect(await t.data(), key).toEqual(await expected.get(key)!.data());
}

let folder: string;
const theirs = createSDSeg(small, 7);
const ours = createSDSeg(small, 8);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdseg-official-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("the published names", () => {
  it("are those of the networks at their published size", async () => {
    const model = new SDSeg(PRESETS.paper, blankRng);
    const autoencoder = weightsInMemory(
      new Map(
        [...parameters(model.autoencoder)].map(([key, { shape }]) => [
          key,
          { dtype: "f32", shape, data: new Float32Array(0) },
        ]),
      ),
      ({ dtype, shape }) => ({ dtype: safetensorsName(dtype), shape }),
    );
    const { entries } = renamed(autoencoder, { rules: vaeRules(4, 2), to: "original" });
    expect(entries.get("encoder.down.1.block.0.nin_shortcut.weight")?.shape).toEqual([256, 128, 1, 1]);
    expect(entries.get("encoder.mid.attn_1.q.weight")?.shape).toEqual([512, 512, 1, 1]);
    expect(entries.get("decoder.up.0.block.0.nin_shortcut.weight")?.shape).toEqual([128, 256, 1, 1]);
    expect(entries.get("decoder.up.3.upsample.conv.weight")?.shape).toEqual([512, 512, 3, 3]);
    expect(entries.get("quant_conv.weight")?.shape).toEqual([8, 8, 1, 1]);
    const unet = parameters(model.network.unet);
    const shapes: Record<string, number[]> = {
      "input_blocks.0.0.weight": [192, 8, 3, 3],
      "time_embed.0.weight": [768, 192],
      "input_blocks.4.0.skip_connection.weight": [384, 192, 1, 1],
      "input_blocks.1.1.qkv.weight": [576, 192, 1],
      "input_blocks.3.0.in_layers.2.weight": [192, 192, 3, 3],
      "middle_block.1.proj_out.weight": [768, 768, 1],
      "output_blocks.2.1.in_layers.0.weight": [768],
      "output_blocks.5.2.in_layers.0.weight": [768],
      "output_blocks.11.2.out_layers.3.weight": [384, 384, 3, 3],
      "output_blocks.14.1.norm.weight": [192],
      "out.2.weight": [4, 192, 3, 3],
    };
    for (const [name, shape] of Object.entries(shapes)) expect(unet.get(name)?.shape, name).toEqual(shape);
    expect([...unet.keys()].some((key) => key.startsWith("input_blocks.13.1"))).toBe(false);
  });
});

describe("initial weights", () => {
  it.each(["", "first_stage_model."])(
    "of KL-f8 fill autoencoder and vision encoder, names below %j",
    async (prefix) => {
      const path = join(folder, `kl${prefix}.safetensors`);
      const weights = await compVis(theirs.autoencoder, prefix);
      weights.set(`${prefix}loss.logvar`, { dtype: "f32", shape: [1], data: new Float32Array(1) });
      await writeSafetensors(path, weights);
      const model = await withAutoencoderWeights(ours, path);
      await expectSame(model.autoencoder, theirs.autoencoder);
      await expectSame(model.network.vision.encoder, theirs.autoencoder.encoder);
      await expectSame(model.network.vision.out, ours.network.vision.out);
    },
  );

  it("of diffusers' layout do as well", async () => {
    const path = join(folder, "vae.safetensors");
    await writeSafetensors(path, await hosts(theirs.autoencoder));
    await expectSame((await withAutoencoderWeights(ours, path)).autoencoder, theirs.autoencoder);
  });

  it("of older files, whose attention has other names, do too", async () => {
    const old = { to_q: "query", to_k: "key", to_v: "value", "to_out.0": "proj_attn" };
    const weights = new Map(
      [...(await hosts(theirs.autoencoder))].map(([name, t]) => [
        name.replace(
          /(attentions\.0\.)(to_[qkv]|to_out\.0)/,
          (_, head, now: keyof typeof old) => head + old[now],
        ),
        t,
      ]),
    );
    expect(weights.has("encoder.mid_block.attentions.0.query.weight")).toBe(true);
    const path = join(folder, "old.safetensors");
    await writeSafetensors(path, weights);
    await expectSame((await withAutoencoderWeights(ours, path)).autoencoder, theirs.autoencoder);
  });

  it("of the denoiser are widened by zeros, and label embeddings stay fresh", async () => {
    const path = join(folder, "ldm.safetensors");
    const weights = await hosts(theirs.network.unet);
    const wide = weights.get("input_blocks.0.0.weight")!;
    const narrow = new Float32Array(8 * 4 * 9);
    for (let o = 0; o < 8; o++) narrow.set((wide.data as Float32Array).subarray(o * 72, o * 72 + 36), o * 36);
    weights.set("input_blocks.0.0.weight", { dtype: "f32", shape: [8, 4, 3, 3], data: narrow });
    await writeSafetensors(path, prefixed(weights, "model.diffusion_model."));
    const model = await withDenoiserWeights(createSDSeg({ ...small, classes: 3 }, 1), path);
    const first = parameters(model.network.unet).get("input_blocks.0.0.weight") as Tensor;
    const values = (await first.data()) as Float32Array;
    for (let o = 0; o < 8; o++) {
      expect(values.slice(o * 72, o * 72 + 36)).toEqual(narrow.slice(o * 36, (o + 1) * 36));
      expect(values.slice(o * 72 + 36, (o + 1) * 72).every((v) => v === 0)).toBe(true);
    }
    expect(parameters(model.network.unet).get("label_emb.weight")?.shape).toEqual([3, 32]);
  });

  it("that do not fit are listed by name, and nothing is loaded", async () => {
    const path = join(folder, "wrong.safetensors");
    const weights = await compVis(theirs.autoencoder, "");
    weights.delete("encoder.conv_in.bias");
    await writeSafetensors(path, weights);
    await expect(withAutoencoderWeights(ours, path)).rejects.toThrow(/encoder\.conv_in\.bias/);
  });
});

it("a checkpoint of SDSeg's code gives its averaged denoiser, vision encoder, autoencoder and scale", async () => {
  const path = join(folder, "trained.safetensors");
  const dotless = new Map(
    [...(await hosts(theirs.network.unet))].map(([name, t]) => [
      `model_ema.diffusion_model${name.replaceAll(".", "")}`,
      t,
    ]),
  );
  const vision = theirs.network.vision;
  const encoder = new Map(
    [...(await compVis({ encoder: vision.encoder }, ""))].map(([name, t]) => [`cond_stage_model.${name}`, t]),
  );
  await writeSafetensors(
    path,
    new Map([
      ...prefixed(await hosts(ours.network.unet), "model.diffusion_model."),
      ...dotless,
      ["model_ema.decay", { dtype: "f32", shape: [1], data: new Float32Array(1) }],
      ...encoder,
      ...prefixed(await hosts(vision.out), "cond_stage_model.out."),
      ...(await compVis(theirs.autoencoder, "first_stage_model.")),
      ["scale_factor", { dtype: "f32", shape: [1], data: Float32Array.of(0.125) }],
    ]),
  );
  // --model and --from know such a file, and take it at the published sizes.
  await expect(openModel(path)).rejects.toThrow(/trained\.safetensors.*SDSeg's autoencoder/s);
  const model = await withTrainedWeights(createSDSeg(small, 9), path);
  expect(model.scaleFactor).toBe(0.125);
  await expectSame(model.network.unet, theirs.network.unet);
  await expectSame(model.network.vision, vision);
  await expectSame(model.autoencoder, theirs.autoencoder);
});
