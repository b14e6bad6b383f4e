/** What the page offers to the test that drives it. */

import { type Device, listDevices, sessionThreads, setDefaultDevice } from "../../src/tensor/index.ts";
import { configureWeb, type WebOptions } from "../../src/tensor/runtime/web.ts";
import { ALL_CASES } from "./cases.ts";
import { drawTrials, type Result, runHalf, runTrial, trainTiny } from "./trials.ts";

const page = {
  configure: (options: WebOptions): void => configureWeb(options),
  devices: (): Promise<Device[]> => listDevices(),
  isolated: (): boolean => globalThis.crossOriginIsolated,
  adapter: async (): Promise<string> => {
    type Gpu = { requestAdapter(): Promise<{ info: Record<string, string> } | null> };
    const adapter = await (navigator as unknown as { gpu?: Gpu }).gpu?.requestAdapter();
    return adapter
      ? `${adapter.info.vendor} ${adapter.info.architecture} ${adapter.info.description}`.trim()
      : "";
  },
  half: async (device: Device): Promise<number[][] | string> => {
    await setDefaultDevice(device);
    return runHalf().catch((error: Error) => error.message);
  },
  threads: async (): Promise<number> => (await sessionThreads()).threads,
  train: async (device: Device): Promise<number[]> => {
    await setDefaultDevice(device);
    return trainTiny();
  },
  trials: async (device: Device): Promise<Result[]> => {
    await setDefaultDevice(device);
    const results: Result[] = [];
    for (const trial of drawTrials(ALL_CASES)) results.push(await runTrial(trial));
    return results;
  },
};

export type Page = typeof page;
Object.assign(globalThis, { tweedie: page });
