/** The studio after the tour. */
import { setTimeout as sleep } from "node:timers/promises";
import { DeviceError } from "../../errors.ts";
import type { Studio, StudioOptions } from "../../studio/index.ts";
import { stopOnSignals } from "../signals.ts";

/** From sources, the studio's page is built when it was not yet: seconds, but on a slow disk perhaps many. */
const PATIENCE = 120_000;

type Start = (options: StudioOptions) => Promise<Studio>;

/** Where the studio keeps its jobs. */
const DATA = "out/studio";

/** Starts it at its usual port, or at any that is free. */
async function openStudio(start: Start): Promise<Studio> {
  const settings = { data: DATA, token: true } as const;
  try {
    return await start(settings);
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return start({ ...settings, port: 0 });
  }
}

/** The studio, or an error when it is not there in time. */
export async function studioInTime(start: Start, milliseconds = PATIENCE): Promise<Studio> {
  const waiting = new AbortController();
  const late = sleep(milliseconds, undefined, { signal: waiting.signal }).then(() => {
    throw new DeviceError(
      `the studio's page was not built within ${milliseconds / 1000} s; npm run build makes it, npx tweedie studio serves it`,
    );
  });
  late.catch(() => undefined); // when the studio was faster
  try {
    return await Promise.race([openStudio(start), late]);
  } finally {
    waiting.abort();
  }
}

/** Serves the studio until Ctrl-C. */
export async function serveStudio(say: (text: string) => void): Promise<void> {
  const { runningStudio, startStudio } = await import("../../studio/index.ts");
  const open = await runningStudio(DATA);
  if (open !== undefined) return say(`\nThe studio is open already: ${open}`);
  say("\nOpening the studio; the first time its page is built.");
  const studio = await studioInTime(startStudio);
  for (const warning of studio.warnings) say(`warning: ${warning}`);
  say(
    `The studio, for the same systems on your own files: ${studio.url}\nCtrl-C stops it; what is running saves its state.`,
  );
  const { signal, release } = stopOnSignals(() => undefined);
  await new Promise((stopped) => {
    signal.addEventListener("abort", stopped);
  });
  await studio.close();
  release();
}
