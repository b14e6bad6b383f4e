/** A sampling loop with classifier-free guidance: timesteps, and the latents after every step. */
import { schedulerFromConfig } from "../../src/diffusion/index.ts";
import { FormatError } from "../../src/errors.ts";
import type { Module } from "../../src/nn/index.ts";
import { concat, jit, type Tensor, tensor } from "../../src/tensor/index.ts";
import { type CaseFolder, type Config, numberOf, numbersOf, tensorOf } from "./cases.ts";
import { type Check, compareExact, compareTensor, LIMITS } from "./compare.ts";
import { findModel } from "./model-folder.ts";
import { buildNetwork, type DenoiserCall, denoiserOf } from "./networks.ts";

/** One network call for both conditions, and guidance: `uncond + scale (cond - uncond)`. */
function guidedNetwork(call: DenoiserCall, model: Module, context: Tensor, scale: number) {
  const step = jit((x: Tensor, timestep: Tensor) => {
    const both = call(model, concat(x, x), timestep.broadcastTo([2 * x.shape[0]!]), context);
    const [uncond, cond] = both.split(2) as [Tensor, Tensor];
    return uncond.add(cond.sub(uncond).mul(scale));
  });
  const network = (x: Tensor, timestep: number) => step(x, tensor([timestep], { dtype: "i64" }));
  return { network, close: () => step.close() };
}

/** The scheduler's own configuration; the cases were made with DDIM, and say so in their name only. */
function schedulerConfig({ scheduler }: Config): Config {
  if (typeof scheduler !== "object" || scheduler === null)
    throw new FormatError(`config.json: expected the configuration of a scheduler, got ${String(scheduler)}`);
  return { _class_name: "DDIMScheduler", ...scheduler };
}

export async function runLoopCase(folder: CaseFolder, root: string): Promise<Check[]> {
  const { config, expected } = folder;
  const source = await findModel(folder, root);
  const scheduler = schedulerFromConfig(schedulerConfig(config), { steps: numberOf(config, "steps") });
  const checks: Check[] = [];
  if (config.timesteps !== undefined) {
    const [got, want] = [scheduler.timesteps, numbersOf(config, "timesteps")];
    checks.push(compareExact("timesteps", got.join(" "), want.join(" ")));
  }
  const context = concat(tensorOf(expected, "in.uncond"), tensorOf(expected, "in.cond"));
  const scale = numberOf(config, "guidanceScale");
  const { network, close } = guidedNetwork(
    denoiserOf(source.network),
    buildNetwork(source),
    await context.eval(),
    scale,
  );
  try {
    // Steps are in coordinates without the signal's scale, 1 / sqrt(1 + sigma^2); the reference's have it.
    for await (const { step, x, sigmaNext } of scheduler.sample(network, tensorOf(expected, "in.latents"))) {
      const reference = expected.get(`out.step${step}`);
      if (!reference) continue;
      const scaled = (await x.toArray()).map((v) => v / Math.sqrt(1 + sigmaNext ** 2));
      const name = `out.step${step}`;
      checks.push(compareTensor(name, "step", LIMITS.loop, scaled, await reference.toArray()));
    }
  } finally {
    await close();
  }
  return checks;
}
