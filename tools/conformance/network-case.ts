/** One network: its outputs, and the gradients of the scalar that its outputs and their cotangents make. */
import { FormatError } from "../../src/errors.ts";
import { type Module, parameterCount, parameters } from "../../src/nn/index.ts";
import { isFloat, jit, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";
import { type CaseFolder, type Config, type Network, tensorOf } from "./cases.ts";
import { type Check, compareExact, compareNumber, compareTensor, LIMITS } from "./compare.ts";
import { readModel } from "./model-folder.ts";
import { buildNetwork, type Named, networkOutputs } from "./networks.ts";

/**
 * Gradients of less than this share of the largest gradient norm are compared relative to that share: a bias before a
 * norm has the gradient zero, and what the reference holds for it is rounding noise.
 */
const NOISE = 1e-4;

const withPrefix = (tensors: Named, prefix: string): Map<string, Tensor> =>
  new Map([...tensors].flatMap(([k, t]) => (k.startsWith(prefix) ? [[k.slice(prefix.length), t]] : [])));

type Outputs = Record<string, Tensor>;

/** Sum over the outputs of sum(output * cotangent), in the order of the cotangents. */
const scalarOf = (outputs: Outputs, cotangents: Named): Tensor =>
  [...cotangents]
    .map(([name, cotangent]) =>
      tensorOf(new Map(Object.entries(outputs)), name)
        .mul(cotangent)
        .sum(),
    )
    .reduce((a, b) => a.add(b));

interface Differentiated {
  readonly model: Module;
  readonly inputs: Readonly<Record<string, Tensor>>;
}

interface Gradients {
  readonly loss: number;
  readonly outputs: Outputs;
  readonly inputs: Named;
  readonly parameters: Named;
}

/** Loss, outputs and gradients in one run, with the weights as inputs: the graph of training. */
async function differentiate(
  run: (model: Module, inputs: Named) => Outputs,
  model: Module,
  inputs: Named,
  cotangents: Named,
): Promise<Gradients> {
  const fixed = [...inputs].filter(([, t]) => !isFloat(t.dtype));
  const floats = Object.fromEntries([...inputs].filter(([, t]) => isFloat(t.dtype)));
  const f = (at: Differentiated): [Tensor, Outputs] => {
    const outputs = run(at.model, new Map([...Object.entries(at.inputs), ...fixed]));
    return [scalarOf(outputs, cotangents), outputs];
  };
  const step = jit((at: Differentiated) => valueAndGrad(f, { aux: true })(at));
  try {
    const [[loss, outputs], gradient] = await step({ model, inputs: floats });
    return {
      loss: await loss.item(),
      outputs,
      inputs: new Map(Object.entries(gradient.inputs)),
      parameters: parameters(gradient.model),
    };
  } finally {
    await step.close();
  }
}

const normOf = async (t: Tensor): Promise<number> =>
  Math.sqrt((await t.toArray()).reduce((sum, v) => sum + v * v, 0));

async function compareOutputs(found: Outputs, expected: Named, how: string): Promise<Check[]> {
  const got = new Map(Object.entries(found));
  return Promise.all(
    [...expected].map(async ([name, reference]) => {
      const values = await tensorOf(got, name).toArray();
      return compareTensor(`out.${name}${how}`, "output", LIMITS.output, values, await reference.toArray());
    }),
  );
}

async function compareGradients(
  found: Gradients,
  expected: Named,
  norms: Readonly<Record<string, number>>,
): Promise<Check[]> {
  const largest = Math.max(0, ...Object.values(norms));
  const floor = NOISE * largest;
  const compare = (prefix: string, got: Named) =>
    [...withPrefix(expected, prefix)].map(async ([name, reference]) =>
      compareTensor(
        `${prefix}${name}`,
        "gradient",
        LIMITS.gradient,
        await tensorOf(got, name).toArray(),
        await reference.toArray(),
        { floor },
      ),
    );
  const compareNorm = async ([name, norm]: [string, number]): Promise<Check> => {
    const note = norm < floor ? `the reference is rounding noise: ${norm.toExponential(1)}` : undefined;
    const got = await normOf(tensorOf(found.parameters, name));
    return compareNumber(name, "gradient norm", LIMITS.gradient, got, norm, { floor, note });
  };
  return Promise.all([
    ...compare("grad.in.", found.inputs),
    ...compare("grad.param.", found.parameters),
    ...Object.entries(norms).map(compareNorm),
  ]);
}

/** How large the loss is before its terms cancel: what its error is relative to. */
async function sizeOfLoss(outputs: Named, cotangents: Named): Promise<number> {
  const parts = [...cotangents].map(
    async ([name, c]) => await tensorOf(outputs, name).mul(c).abs().sum().item(),
  );
  return (await Promise.all(parts)).reduce((a, b) => a + b, 0);
}

const numbersIn = (value: unknown): Record<string, number> => (value ?? {}) as Record<string, number>;

export async function runNetworkCase(network: Network, folder: CaseFolder): Promise<Check[]> {
  const source = { ...(await readModel(folder.path)), network };
  const model = buildNetwork(source);
  const settings: Config = { ...folder.config, ...folder.numbers };
  const inputs = withPrefix(folder.expected, "in.");
  const [outputs, cotangents] = [
    withPrefix(folder.expected, "out."),
    withPrefix(folder.expected, "cotangent."),
  ];
  if (outputs.size === 0)
    throw new FormatError(
      `expected.safetensors: no output (out.*), only ${[...folder.expected.keys()].join(", ")}`,
    );
  const run = (m: Module, given: Named): Outputs => networkOutputs(network, m, given, settings);

  // Without gradients the weights are constants, which the runtime lays out anew: other kernels, so both are compared.
  const names = [...inputs.keys()];
  const forward = jit((...values: Tensor[]) => run(model, new Map(names.map((n, i) => [n, values[i]!]))));
  const checks: Check[] = [];
  try {
    checks.push(...(await compareOutputs(await forward(...inputs.values()), outputs, "")));
  } finally {
    await forward.close();
  }
  const { params, loss } = folder.numbers;
  if (typeof params === "number")
    checks.push(compareExact("number of parameters", String(parameterCount(model)), String(params)));
  if (cotangents.size === 0) return checks;
  const found = await differentiate(run, model, inputs, cotangents);
  checks.push(...(await compareOutputs(found.outputs, outputs, " (training graph)")));
  if (typeof loss === "number") {
    const floor = await sizeOfLoss(outputs, cotangents);
    checks.push(compareNumber("loss", "loss", LIMITS.output, found.loss, loss, { floor }));
  }
  const norms = numbersIn(folder.numbers.gradNorms);
  checks.push(...(await compareGradients(found, folder.expected, norms)));
  return checks;
}
