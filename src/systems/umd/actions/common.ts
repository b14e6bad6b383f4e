/** What the actions share: models by name, data by folder, latents by autoencoder. */
import { readdir } from "node:fs/promises";
import { tensorToPictures } from "../../../data/index.ts";
import {
  type Half,
  type LabelledPictures,
  readCifar,
  readFashion,
  readFolder,
  slicePictures,
  tensorOf,
} from "../../../data/picture-set.ts";
import { shapes10 } from "../../../data/world/shapes10.ts";
import { ArgumentError } from "../../../errors.ts";
import type { Picture } from "../../../io/index.ts";
import { AutoencoderKL, AutoencoderTiny } from "../../../networks/index.ts";
import { loadModel } from "../../../pipelines/index.ts";
import { modelPath } from "../../shipped.ts";
import { type LoadedUMD, loadUMD } from "../checkpoint.ts";
import { type Autoencoder, decodeLatents, encodeLatents } from "../latents.ts";
import { CHECKPOINTS } from "../options.ts";

/** File of a model by name or path. Throws `ArgumentError` when there is none. */
export const modelFile = (name: string): Promise<string> => modelPath("UMD", CHECKPOINTS, name);

export const openModel = async (name: string): Promise<LoadedUMD> => loadUMD(await modelFile(name));

/** Numbers of shapes10 pictures that training and testing have. */
const SHAPES = { train: { first: 0, count: 12_000 }, test: { first: 1_000_000, count: 2000 } };

/** Samples as pictures. */
export async function picturesOf(
  samples: LabelledPictures,
  autoencoder: Autoencoder | undefined,
): Promise<Picture[]> {
  return tensorToPictures(tensorOf(autoencoder ? await decodeLatents(autoencoder, samples) : samples));
}

export interface DataRequest {
  readonly folder: string | undefined;
  readonly half: Half;
  readonly size: number;
  readonly channels: number;
  readonly limit?: number | undefined;
}

/** Pictures by folder: its files say which set it is. Without a folder, shapes10. */
export async function openPictures(
  request: DataRequest,
): Promise<{ title: string; pictures: LabelledPictures }> {
  const { folder, half, size, channels, limit } = request;
  const rules = { size, channels };
  if (folder === undefined) {
    if (channels !== 3) throw new ArgumentError("UMD: shapes10 is in colour: expected 3 channels");
    const { first, count } = SHAPES[half];
    return {
      title: "shapes10",
      pictures: shapes10({ seed: 1, size, first, count: Math.min(limit ?? count, count) }),
    };
  }
  const names = await readdir(folder).catch((cause) => {
    throw new ArgumentError(`${folder}: cannot be read as a folder`, { cause });
  });
  const read = names.some((name) => /-idx3-ubyte/.test(name))
    ? readFashion
    : names.some((name) => /^(cifar10_batch_\d+\.png|data_batch_\d\.bin)$/.test(name))
      ? readCifar
      : readFolder;
  const pictures = await read(folder, half, rules);
  return { title: folder, pictures: limit === undefined ? pictures : slicePictures(pictures, 0, limit) };
}

/** An autoencoder by folder or file. Throws `ArgumentError` for another network. */
export async function openAutoencoder(path: string): Promise<Autoencoder> {
  const { model } = await loadModel(path);
  if (model instanceof AutoencoderKL || model instanceof AutoencoderTiny) return model;
  throw new ArgumentError(`${path}: expected an autoencoder`);
}

/** Pictures as the model takes them: themselves, or their latents. */
export async function openInputs(
  request: DataRequest & { readonly autoencoder?: Autoencoder | undefined },
): Promise<{ title: string; pictures: LabelledPictures }> {
  const { autoencoder, size } = request;
  if (!autoencoder) return openPictures(request);
  const opened = await openPictures({
    ...request,
    size: size * autoencoder.sizeFactor,
    channels: autoencoder.inChannels,
  });
  return { ...opened, pictures: await encodeLatents(autoencoder, opened.pictures) };
}

/** The autoencoder that a model's domain needs. Throws `ArgumentError` when it is missing. */
export async function autoencoderFor(
  domain: "pixels" | "latents",
  path: string | undefined,
): Promise<Autoencoder | undefined> {
  if (domain === "pixels") return undefined;
  if (path === undefined) throw new ArgumentError("UMD: a model of latents needs its autoencoder");
  return openAutoencoder(path);
}
