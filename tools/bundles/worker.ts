/** A worker of the page: computes beside it. */
import { jit, type Tensor, tensor } from "tweedie";
import { configureWeb } from "tweedie/web";

globalThis.onmessage = async ({ data }: MessageEvent<{ ort?: string }>) => {
  if (data.ort !== undefined) configureWeb({ wasmPaths: data.ort });
  const sum = await jit((x: Tensor) => x.sum())(tensor([1, 2, 3]));
  globalThis.postMessage(String(await sum.item()));
};
