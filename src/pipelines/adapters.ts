/** Low-rank adapters folded into the components of a pipeline. */
import { basename, dirname, join, stat } from "#node";
import { FormatError } from "../errors.ts";
import { openSafetensors } from "../io/index.ts";
import { fuseLoras, type LoraTargets, readLora } from "../networks/index.ts";
import { fromHost, type Tensor } from "../tensor/index.ts";
import type { PipelineComponents } from "./components.ts";
import { readConfigIfThere } from "./model-files.ts";

/** Adapters and how much they count. */
export interface LoraFile {
  /** A file, or a folder as PEFT saves it. */
  readonly path: string;
  readonly weight: number;
}

const targetsOf = ({ unet, transformer, textEncoders }: PipelineComponents): LoraTargets => ({
  ...(unet && { unet: unet.model }),
  ...(transformer && { transformer: transformer.model }),
  ...(textEncoders[0] && { textEncoder: textEncoders[0].model }),
  ...(textEncoders[1] && { textEncoder2: textEncoders[1].model }),
});

/** Tensors of a file by name, and what the file says of itself. */
async function readTensors(path: string) {
  const reader = await openSafetensors(path);
  try {
    const stored = await reader.readAll();
    const tensors = new Map<string, Tensor>();
    for (const [name, t] of stored) {
      if ("bytes" in t)
        throw new FormatError(`LoRA ${path}: ${name} is of type ${t.dtype}, which adapters do not have`);
      tensors.set(name, fromHost(t.dtype, t.shape, t.data));
    }
    return { tensors, metadata: reader.metadata };
  } finally {
    await reader.close();
  }
}

/** Names in a folder of PEFT. */
const PEFT = { weights: "adapter_model.safetensors", config: "adapter_config.json" } as const;

/** The file of an adapter, and PEFT's configuration beside it, which says how strong it is. */
async function openAdapter(path: string) {
  const isFolder = (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
  const file = isFolder ? join(path, PEFT.weights) : path;
  const config =
    basename(file) === PEFT.weights ? await readConfigIfThere(join(dirname(file), PEFT.config)) : undefined;
  return { ...(await readTensors(file)), ...(config && { config }) };
}

/** The components with adapters folded into their weights. @throws FormatError for files that hold none that fit */
export async function withLoras(
  components: PipelineComponents,
  loras: readonly LoraFile[],
): Promise<PipelineComponents> {
  if (loras.length === 0) return components;
  const targets = targetsOf(components);
  const weighted = [];
  for (const { path, weight } of loras) {
    const { tensors, ...said } = await openAdapter(path);
    const { adapters } = await readLora(tensors, targets, said);
    weighted.push({ adapters, weight });
  }
  const fused = await fuseLoras(targets, weighted);
  const { unet, transformer, textEncoders } = components;
  const encoders = [fused.textEncoder, fused.textEncoder2];
  return {
    ...components,
    ...(unet && { unet: { ...unet, model: fused.unet! } }),
    ...(transformer && { transformer: { ...transformer, model: fused.transformer! } }),
    textEncoders: textEncoders.map((encoder, i) => ({ ...encoder, model: encoders[i]! })),
  };
}
