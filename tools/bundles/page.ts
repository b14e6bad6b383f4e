/**
 * What a page does with every entry that browsers can use: `main.ts` bundles it with each bundler, runs it in Chromium and
 * reads what it leaves in `bundle`. Each check gives numbers that Node gives, too, or the error that says why not.
 */
import { createNoise, jit, type Tensor, tensor, valueAndGrad } from "tweedie";
import {
  decodeNpy,
  fromArray,
  niftiDescription,
  readAll,
  readCsv,
  shapes10,
  tiffDescription,
  tiffStack,
} from "tweedie/data";
import { euler, finalSample, karrasSigmas, withZero } from "tweedie/diffusion";
import { ArgumentError } from "tweedie/errors";
import { cross } from "tweedie/geometry";
import { encodeSafetensors as encodeAll, readPicture, readPngText, withPngText } from "tweedie/io";
import { decodeSafetensors, encodeSafetensors } from "tweedie/io/safetensors";
import { dice, rocAuc } from "tweedie/metrics";
import { createUNet2D } from "tweedie/networks";
import { adamW, createRng, Linear, parameterCount, train } from "tweedie/nn";
import { loadModel, parseHubId } from "tweedie/pipelines";
import { lineChart, reportHtml, tableMarkdown } from "tweedie/report";
import { epochIndices, runPhase } from "tweedie/training";
import { configureWeb } from "tweedie/web";
import { drained } from "tweedie/work";

const address = new URL(location.href);
// esbuild does not follow addresses of files, so that the page says where they are.
if (address.searchParams.has("ort")) configureWeb({ wasmPaths: new URL("/ort/", address).href });

/** The words of the error that a call ends in. */
const refusal = (call: () => unknown): Promise<string> =>
  Promise.resolve()
    .then(call)
    .then(
      () => "nothing was refused",
      (error: Error) => `${error.name}: ${error.message}`,
    );

const x = tensor([
  [1, 0],
  [0, 1],
]); // [2, 2]
const squared = (net: Linear, input: Tensor): Tensor => net.call(input).square().mean();

async function trained(directory?: string): Promise<string> {
  let [first, last] = [0, 0];
  const options = {
    model: new Linear(2, 1, createRng(0)),
    optimizer: adamW({ learningRate: 0.05 }),
    steps: 40,
  };
  for await (const event of train({
    ...options,
    loss: (net, b: { x: Tensor }) => squared(net, b.x),
    batch: () => ({ x }),
    ...(directory && { directory }),
  })) {
    if (event.type !== "step") continue;
    if (event.step === 1) first = event.loss;
    last = event.loss;
  }
  return last < first / 4 ? "ok" : `the loss went from ${first} to ${last}`;
}

async function phase(): Promise<string> {
  const settings = {
    steps: 3,
    batch: 2,
    learningRate: 0.1,
    warmup: 0,
    schedule: "constant",
    clip: 0,
  } as const;
  const model = new Linear(2, 1, createRng(0));
  const work = runPhase({
    stage: "page",
    settings,
    model,
    loss: (net, b: { x: Tensor }) => squared(net, b.x),
    batch: () => ({ x }),
  });
  return (await drained(work)).final instanceof Linear ? "ok" : "no model";
}

async function pngTexts(): Promise<string> {
  const canvas = new OffscreenCanvas(2, 2);
  canvas.getContext("2d")!.fillRect(0, 0, 2, 2);
  const png = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
  const texts = [
    { keyword: "Title", text: "näher" },
    { keyword: "Author", text: "日本" },
  ];
  return readPngText(withPngText(png, texts))
    .map(({ text }) => text)
    .join(" ");
}

function compressedTiff(): string {
  const data = Uint8Array.from({ length: 64 }, (_, i) => i);
  return String(tiffDescription(tiffStack([{ width: 8, height: 8, data }], "eight by eight")));
}

/** A number from a module worker of the same bundle. */
const inWorker = (): Promise<unknown> =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage({ ort: address.searchParams.has("ort") ? new URL("/ort/", address).href : undefined });
  });

const UNET = {
  inChannels: 1,
  outChannels: 1,
  channels: [8, 8],
  downBlocks: ["DownBlock2D", "DownBlock2D"],
  upBlocks: ["UpBlock2D", "UpBlock2D"],
  groups: 4,
} as const;

/** Checks by name; each with what it must give. */
const CHECKS: Record<string, readonly [expected: unknown, check: () => unknown]> = {
  tweedie: [
    "1,3",
    async () => {
      const [value, slope] = await jit((w: Tensor) =>
        valueAndGrad((v: Tensor) => v.square().mul(0.5).mean())(w),
      )(tensor([1, 3]).mul(1));
      return [(await slope.toArray()).map((v) => v * 2), (await value.item()) === 2.5 ? "" : "wrong value"]
        .filter(String)
        .join();
    },
  ],
  errors: [true, () => new ArgumentError("x") instanceof Error],
  nn: ["ok", () => trained()],
  "nn with a folder": [/^DeviceError: train: there are no files/, () => refusal(() => trained("run"))],
  diffusion: [
    "0.00",
    async () => {
      const start = tensor([Array.from(createNoise("philox", 1).normal([4]))]).mul(10); // [1, 4]
      const drawn = await finalSample(
        euler((z) => z.mul(0), start, withZero(karrasSigmas(4, { min: 0.1, max: 10 }))),
      );
      return (await drawn.abs().max().item()).toFixed(2);
    },
  ],
  networks: [true, () => parameterCount(createUNet2D(createRng(0), UNET)) > 1000],
  geometry: ["0,0,1", () => String(cross([1, 0, 0], [0, 1, 0]))],
  "io/safetensors": [
    "2,2",
    () =>
      String(
        decodeSafetensors(
          encodeSafetensors({ a: { dtype: "f32", shape: [2, 2], data: new Float32Array(4) } }),
        ).tensors.get("a")?.shape,
      ),
  ],
  io: [true, () => encodeAll({ a: { dtype: "f32", shape: [1], data: new Float32Array(1) } }).length > 8],
  "io: texts of a PNG": ["näher 日本", pngTexts],
  "io: a path": [/^DeviceError: readFile: this needs Node/, () => refusal(() => readPicture("a.png"))],
  data: ["16", () => String(shapes10({ seed: 1, count: 16 }).count)],
  "data: bytes": ["eight by eight", compressedTiff],
  "data: a dataset": ["1,2,3", async () => String(await readAll(fromArray([1, 2, 3])))],
  "data: a path": [/^DeviceError/, () => refusal(() => readCsv("a.csv"))],
  "data: what is no file": [
    /^FormatError/,
    () => refusal(() => [niftiDescription(new Uint8Array(4)), decodeNpy(new Uint8Array(4))]),
  ],
  metrics: [
    "1,0.5",
    () => String([rocAuc([0.1, 0.9], [0, 1]), dice({ both: 1, predictedOnly: 1, truthOnly: 1 })]),
  ],
  report: [true, () => lineChart([{ name: "a", x: [0, 1], y: [0, 1] }]).startsWith("<svg")],
  "report: tables": [
    true,
    async () =>
      (
        await reportHtml({ title: "t", sections: [{ text: tableMarkdown({ columns: ["a"], rows: [[1]] }) }] })
      ).includes("| a |"),
  ],
  pipelines: ["owner/name", () => String(parseHubId("hub:owner/name")?.repo)],
  "pipelines: a path": [/^DeviceError/, () => refusal(() => loadModel("model"))],
  training: ["ok", phase],
  "training: batches": ["4", () => String(epochIndices(8, 4, 0)(1).length)],
  "a worker": ["6", inWorker],
};

const failed: string[] = [];
for (const [name, [expected, check]] of Object.entries(CHECKS)) {
  const got = await Promise.resolve()
    .then(check)
    .catch((error: Error) => error.stack ?? error);
  const holds = expected instanceof RegExp ? expected.test(String(got)) : got === expected;
  if (!holds) failed.push(`${name}: expected ${expected}, got ${got}`);
}
Object.assign(globalThis, { bundle: { checks: Object.keys(CHECKS).length, failed } });
