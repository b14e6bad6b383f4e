/** The study's pictures: three parts of which no picture is in two. A: clean; B: degraded alone, but for the oracle; C: judges. */
import { join } from "node:path";
import {
  type CleanPicture,
  type Dataset,
  dataset,
  degradedPairs,
  folderPictures,
  mapDataset,
  middleOf,
  openRestorationPairs,
  ownPictures,
  type RestorationPair,
  subset,
} from "../../data/index.ts";
import { degradedCrops, pairedCrops } from "../../training/index.ts";
import { DOMAINS, type DomainName } from "./domains.ts";
import type { JointSources } from "./train.ts";

export const WORLDS = ["own", "photographs"] as const;
export type World = (typeof WORLDS)[number];

/** Parts of a world. */
type Part = "A" | "B" | "test" | "validation";
const OWN = { A: "restorer", B: "real", test: "test", validation: "validation" } as const;
/** Numbers of photographs, in the order of their names: 60 and 24 for training, 8 and 4 to judge. */
const PHOTOGRAPHS = { A: [0, 60], B: [60, 84], test: [0, 8], validation: [8, 12] } as const;

/** The middle of photographs, so that a score takes a second. */
const WINDOW = 192;
/** Sets of pictures that are few enough to be kept degraded. */
const FEW = 1000;
/** Of what is judged. */
const TEST_SEED = 1;

async function openPart(world: World, part: Part, count: number, data: string | undefined) {
  if (world === "own") return ownPictures(OWN[part], count);
  const folder = join(data!, "bsds500", "image", part === "A" || part === "B" ? "train" : "val");
  const [from, to] = PHOTOGRAPHS[part];
  const all = await folderPictures(folder);
  return subset(
    all,
    Array.from({ length: Math.min(to, from + count) - from }, (_, i) => from + i),
  );
}

/** What was made before, so that arms share it: pictures are made or read once, and few real ones are degraded once. */
const parts = new Map<string, Promise<Dataset<CleanPicture>>>();
const real = new Map<string, Dataset<RestorationPair>>();

function picturesOf(
  world: World,
  part: Part,
  count: number,
  data: string | undefined,
): Promise<Dataset<CleanPicture>> {
  const key = [world, part, count, data].join();
  if (!parts.has(key)) parts.set(key, openPart(world, part, count, data));
  return parts.get(key)!;
}

/** Pairs that are degraded once, as real pictures are; few of them are kept. */
function once(key: string, pairs: Dataset<RestorationPair>): Dataset<RestorationPair> {
  const known = new Map<number, Promise<RestorationPair>>();
  const kept = dataset(pairs.length, (i) => {
    if (pairs.length > FEW) return pairs.get(i);
    if (!known.has(i)) known.set(i, Promise.resolve(pairs.get(i)));
    return known.get(i)!;
  });
  if (!real.has(key)) real.set(key, kept);
  return real.get(key)!;
}

/** What arms of a domain learn from; the oracle learns from the real pairs in place of the synthetic ones. */
export async function sourcesOf(
  world: World,
  domain: DomainName,
  {
    pictures,
    seed,
    oracle,
    data,
  }: { pictures: number; seed: number; oracle: boolean; data: string | undefined },
): Promise<JointSources> {
  const damage = DOMAINS[domain];
  const [a, b] = await Promise.all(
    (["A", "B"] as const).map((part) => picturesOf(world, part, pictures, data)),
  );
  const key = [world, domain, pictures, seed, data].join();
  const bad = pairedCrops(once(key, degradedPairs(b!, damage.real, seed)), seed);
  return {
    synthetic: oracle ? bad : degradedCrops(a!, damage.synthetic, seed),
    real: bad,
    // Clean pictures that no condition shows, for mode 2.
    reference: degradedCrops(a!, damage.synthetic, seed + 1),
  };
}

/** Sets that networks are judged on. */
export type SetName = "test" | "validation" | "synthetic";

/** Pairs that a domain is judged on. */
export async function judgedPairs(
  world: World,
  domain: DomainName,
  set: SetName,
  count: number,
  data: string | undefined,
): Promise<Dataset<RestorationPair>> {
  const clean: Dataset<CleanPicture> = await picturesOf(
    world,
    set === "test" ? "test" : "validation",
    count,
    data,
  );
  const { synthetic, real } = DOMAINS[domain];
  const pairs = degradedPairs(clean, set === "synthetic" ? synthetic : real, TEST_SEED);
  return world === "own" ? pairs : mapDataset(pairs, (pair) => middleOf(pair, WINDOW));
}

/** Photographs with a truth that no network has learned from, by what they suffer. */
export const TRANSFER: Readonly<Partial<Record<DomainName, string>>> = {
  noise: "real-noise",
  correlated: "real-noise",
  blotches: "real-noise",
  rain: "rain100h",
  blur: "blur",
};

/** The same pairs for every network: the middles of all pictures of a folder. */
export async function transferPairs(folder: string, data: string): Promise<Dataset<RestorationPair>> {
  return mapDataset(await openRestorationPairs(join(data, folder)), (pair) => middleOf(pair, WINDOW));
}
