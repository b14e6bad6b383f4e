/** A pipeline against the same computation written out: DDIM (Song et al. 2021, eq. 12) with guidance. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { AutoencoderKL, CLIPTextModel, UNet2DConditionModel } from "../../src/networks/index.ts";
import { CLIPTokenizer } from "../../src/networks/index.ts";
import { generatePictures, loadPipelineComponents, planPictures } from "../../src/pipelines/index.ts";
import { fromHost, jit, type Tensor, TorchCpuGenerator, tensor } from "../../src/tensor/index.ts";
import { SCHEDULER, writeTinyStableDiffusion } from "./tiny-pipelines.ts";

const folder = mkdtempSync(join(tmpdir(), "tweedie-by-hand-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Share of the signal at each training timestep: scaled-linear betas, in double precision. */
function signalShares(): number[] {
  const [first, last] = [Math.sqrt(0.00085), Math.sqrt(0.012)];
  let product = 1;
  return Array.from({ length: 1000 }, (_, t) => (product *= 1 - (first + ((last - first) * t) / 999) ** 2));
}

test("text to image is DDIM with guidance, written out", async () => {
  await writeTinyStableDiffusion(folder, {
    scheduler: { ...SCHEDULER, _class_name: "DDIMScheduler", clip_sample: false },
  });
  const components = await loadPipelineComponents(folder);
  const { unet, vae, textEncoders, tokenizers } = components;
  const [steps, guidance, seed] = [4, 5, 42];

  const tokenizer = new CLIPTokenizer(tokenizers[0]!);
  const ids = ["", "a red cat"].flatMap((text) => tokenizer.encode(text).ids);
  const encoder = textEncoders[0]!.model as CLIPTextModel;
  const context = encoder.call(fromHost("i64", [2, 77], BigInt64Array.from(ids, BigInt))).lastHiddenState;
  const predict = jit((model: UNet2DConditionModel, x: Tensor, t: Tensor, c: Tensor) =>
    model.call(x.concat(x), t, c),
  );

  const shares = signalShares();
  let x: Float32Array = new TorchCpuGenerator(seed).normal(4 * 8 * 8);
  for (let i = 0; i < steps; i++) {
    const t = (steps - 1 - i) * 250 + 1;
    const both = await predict(
      unet!.model as UNet2DConditionModel,
      tensor(x, { shape: [1, 4, 8, 8] }),
      tensor([t]),
      context,
    );
    const eps = (await both.data()) as Float32Array;
    const [now, next] = [shares[t]!, shares[t < 250 ? 0 : t - 250]!];
    x = x.map((value, k) => {
      const noise = eps[k]! + guidance * (eps[k + x.length]! - eps[k]!);
      const clean = (value - Math.sqrt(1 - now) * noise) / Math.sqrt(now);
      return Math.sqrt(next) * clean + Math.sqrt(1 - next) * noise;
    });
  }
  const latents = tensor(
    x.map((v) => v / 0.18215),
    { shape: [1, 4, 8, 8] },
  );
  const expected = (await (vae!.model as AutoencoderKL).decode(latents).data()) as Float32Array;

  for await (const event of generatePictures(
    planPictures(components, { prompt: "a red cat", steps, guidance, seeds: [seed] }),
  )) {
    if (event.type !== "picture") continue;
    const got = (await event.image.data()) as Float32Array;
    const scale = Math.max(...expected.map(Math.abs));
    const worst = got.reduce((m, v, k) => Math.max(m, Math.abs(v - expected[k]!)), 0);
    expect(worst / scale).toBeLessThan(1e-4);
  }
  expect.assertions(1);
  await predict.close();
});
