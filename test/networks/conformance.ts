/** Cases of the reference library: a network's weights, inputs, outputs and gradients, in `fixtures/networks`. */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { decodeSafetensors } from "../../src/io/index.ts";
import { unet2DWeights } from "../../src/networks/index.ts";
import { loadParameters, type Module, parameters } from "../../src/nn/index.ts";
import { evaluate, fromHost, isFloat, type Tensor, vjp } from "../../src/tensor/index.ts";

const file = (folder: string, name: string): URL =>
  new URL(`../fixtures/networks/${folder}/${name}`, import.meta.url);

/** A JSON file of a case. */
export const readJson = (folder: string, name: string): never =>
  JSON.parse(readFileSync(file(folder, name), "utf8")) as never;

/** A safetensors file of a case. */
export function readTensors(folder: string, name: string): Map<string, Tensor> {
  const { tensors } = decodeSafetensors(readFileSync(file(folder, name)));
  return new Map(
    [...tensors].map(([key, t]) => {
      if ("bytes" in t) throw new Error(`${key}: unexpected type ${t.dtype}`);
      return [key, fromHost(t.dtype, t.shape, t.data)];
    }),
  );
}

/** The network of a case: built from its configuration, with its weights. */
export const networkOf = <M extends Module>(folder: string, build: (config: unknown) => M): M =>
  loadParameters(
    build(readJson(folder, "config.json")),
    unet2DWeights(readTensors(folder, "model.safetensors")),
  );

/** The largest difference is at most `tolerance` times the largest expected value. */
export async function expectRelative(got: Tensor, expected: Tensor, tolerance: number, what: string) {
  expect(got.shape, what).toEqual(expected.shape);
  const [a, b] = [await got.toArray(), await expected.toArray()];
  const scale = b.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  const worst = a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0);
  expect(worst / scale, what).toBeLessThan(tolerance);
}

/**
 * Outputs within 1e-4; gradients of the loss sum(output * cotangent) with respect to all float inputs and some
 * parameters, and the norms of the gradients of all parameters, within 1e-3.
 */
export async function expectConformance<M extends Module>(
  folder: string,
  build: (config: unknown) => M,
  call: (network: M, inputs: Record<string, Tensor>) => Record<string, Tensor>,
): Promise<void> {
  const expected = readTensors(folder, "expected.safetensors");
  const named = (prefix: string): Record<string, Tensor> =>
    Object.fromEntries(
      [...expected].flatMap(([key, t]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), t]] : [])),
    );
  const network = networkOf(folder, build);
  const inputs = named("in.");
  const [outputs, pull] = vjp((m: M, x: Record<string, Tensor>) => call(m, x), network, inputs);
  const [ofNetwork, ofInputs] = pull(named("cotangent."));
  const gradients = parameters(ofNetwork as M);
  await evaluate([...Object.values(outputs), ...gradients.values(), ...Object.values(ofInputs)]);

  for (const [key, t] of Object.entries(named("out."))) await expectRelative(outputs[key]!, t, 1e-4, key);
  for (const [key, t] of Object.entries(named("grad.in.")))
    if (isFloat(t.dtype)) await expectRelative(ofInputs[key]!, t, 1e-3, `gradient of ${key}`);
  for (const [key, t] of Object.entries(named("grad.param.")))
    await expectRelative(gradients.get(key)!, t, 1e-3, `gradient of ${key}`);
  const { gradNorms } = readJson(folder, "expected.json") as { gradNorms: Record<string, number> };
  const trained = new Map([...gradients].filter(([key]) => key !== "time_proj.weight")); // fixed frequencies
  expect([...trained.keys()].sort()).toEqual(Object.keys(gradNorms).sort());
  await expectNorms(trained, gradNorms);
}

async function expectNorms(gradients: ReadonlyMap<string, Tensor>, norms: Record<string, number>) {
  // A convolution's bias before a norm has a gradient of rounding errors alone.
  const floor = 1e-5 * Math.max(...Object.values(norms));
  for (const [key, gradient] of gradients) {
    const norm = Math.sqrt((await gradient.toArray()).reduce((sum, v) => sum + v * v, 0));
    const error = Math.abs(norm - norms[key]!) / Math.max(norms[key]!, floor);
    expect(error, `norm of the gradient of ${key}`).toBeLessThan(1e-3);
  }
}
