/** `tweedie models convert`: to a folder, to one file, or to ONNX. */
import { access, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ArgumentError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/index.ts";
import {
  type ConvertOptions,
  convertToFolder,
  convertToOriginalFile,
  convertToSingleFile,
  exportModel,
  inspectModel,
  type LoadedModel,
  loadModel,
  loadPipelineComponents,
  type ModelReport,
  saveModel,
  writeFolderAtomic,
} from "../../pipelines/index.ts";
import { UsageError } from "../errors.ts";
import { type ParsedArguments, parseArguments, printJson } from "../positionals.ts";
import { choiceValue, integerValue, sizeValue } from "../values.ts";
import { openOptions } from "./open-options.ts";
import { CONVERT_OPTIONS } from "./options.ts";

const LAYOUTS = ["diffusers", "single", "onnx"] as const;
type Layout = (typeof LAYOUTS)[number];
const WIDTHS = ["f32", "f16", "bf16"] as const;

function layoutOf(to: string | undefined, out: string): Layout {
  if (to !== undefined) return choiceValue("to", to, LAYOUTS);
  if (/\.safetensors$/i.test(out)) return "single";
  return /\.onnx$/i.test(out) ? "onnx" : "diffusers";
}

async function refuseExisting(path: string, overwrite: boolean): Promise<void> {
  if (overwrite) return;
  const there = await access(path).then(
    () => true,
    () => false,
  );
  if (there) throw new ArgumentError(`${path}: this file is there already; --overwrite replaces it`);
}

/** The networks of a pipeline by the names of their folders, or a lone network. */
async function networksOf(
  from: string,
  { what }: ModelReport,
  options: ConvertOptions,
): Promise<[name: string | undefined, network: LoadedModel][]> {
  if (what === "network") return [[undefined, await loadModel(from, options)]];
  const { unet, transformer, vae, textEncoders } = await loadPipelineComponents(from, options);
  const named = { unet, transformer, vae, text_encoder: textEncoders[0], text_encoder_2: textEncoders[1] };
  return Object.entries(named).flatMap(([name, m]): [string, LoadedModel][] => (m ? [[name, m]] : []));
}

/** Denoisers of latents see one value for 8 x 8 pixels. */
const OF_LATENTS = /^(?:UNet2DConditionModel|DiTTransformer2DModel|Transformer2DModel)$/;

/** One file per graph: in the folder `out`, or `out` itself for a network with a single one. */
async function toOnnx(
  from: string,
  out: string,
  report: ModelReport,
  options: ConvertOptions,
  { text, flag }: ParsedArguments,
): Promise<string[]> {
  const [size, batch] = [text("size"), text("batch")];
  const pixels = size === undefined ? undefined : sizeValue("size", size);
  const overwrite = flag("overwrite");
  const isFile = /\.onnx$/i.test(out);
  if (isFile) await refuseExisting(out, overwrite);
  const networks = await networksOf(from, report, options);
  const written: string[] = [];
  const write = async (folder: string): Promise<void> => {
    for (const [name, network] of networks) {
      const factor = OF_LATENTS.test(network.className) ? 8 : 1;
      const shape = pixels && { height: pixels.height / factor, width: pixels.width / factor };
      const sizes = { ...shape, batch: batch === undefined ? 1 : integerValue("batch", batch, { min: 1 }) };
      for await (const { name: graph, bytes, integers } of exportModel(network, sizes)) {
        // An autoencoder has two graphs, named by what they do; anything else has the name of its folder.
        const file = isFile
          ? out
          : join(folder, `${network.className.startsWith("Autoencoder") ? graph : (name ?? graph)}.onnx`);
        if (isFile && written.length > 0)
          throw new ArgumentError(`${from}: it has several graphs: name a folder and not ${out}`);
        await writeFileAtomic(file, bytes);
        if (integers)
          console.error(`${file}: packed layers are operators of ONNX Runtime (com.microsoft.MatMulNBits)`);
        written.push(file.slice(isFile ? 0 : folder.length + 1));
      }
    }
  };
  if (isFile) {
    await mkdir(dirname(out), { recursive: true });
    await write(dirname(out));
  } else await writeFolderAtomic(out, overwrite, write);
  return written;
}

/** `tweedie models convert`. */
export async function convert(args: readonly string[]): Promise<void> {
  const options = parseArguments(args, CONVERT_OPTIONS);
  const { text, flag, positional } = options;
  const [from, out] = [positional(0), positional(1)];
  const layout = layoutOf(text("to"), out);
  const dtype = text("dtype");
  if (dtype !== undefined && layout === "onnx")
    throw new UsageError("--dtype is not for onnx: convert the model first; weights keep their width");
  const overwrite = flag("overwrite");
  const how: ConvertOptions = {
    ...(await openOptions(options)),
    overwrite,
    dtype: dtype === undefined ? undefined : choiceValue("dtype", dtype, WIDTHS),
  };
  const report = await inspectModel(from, how);
  if (report.what === "weights") throw new ArgumentError(report.note ?? `${from}: of no known architecture`);
  let files = [out];
  if (layout === "onnx") files = await toOnnx(from, out, report, how, options);
  else if (layout === "single") {
    await refuseExisting(out, overwrite);
    await mkdir(dirname(out), { recursive: true });
    await (report.what === "network" ? convertToOriginalFile : convertToSingleFile)(from, out, how);
  } else if (report.what === "network") await saveModel(out, await loadModel(from, how), how);
  else await convertToFolder(from, out, how);
  if (flag("json")) printJson({ from, out, layout, files });
  else console.log(`${out}: ${layout === "onnx" ? files.join(", ") : layout}`);
}
