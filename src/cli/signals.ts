/** Ctrl-C: the first ends the work after the step at hand, the second at once. */
import { EXIT } from "./errors.ts";

const NAMES = ["SIGINT", "SIGTERM"] as const;

/** A signal that Ctrl-C aborts. `tidy` removes what must not be left over when the process ends at once. */
export function stopOnSignals(tidy: () => void): { readonly signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) {
      tidy();
      process.exit(EXIT.stopped);
    }
    process.stderr.write("\nstopping after this step; once more stops at once\n");
    controller.abort();
  };
  for (const name of NAMES) process.on(name, stop);
  return {
    signal: controller.signal,
    release: () => {
      for (const name of NAMES) process.off(name, stop);
    },
  };
}
