/** Ctrl-C: the first ends the work after the step at hand, the second at once. */
import { EXIT } from "./errors.ts";

const NAMES = ["SIGINT", "SIGTERM"] as const;
/** npm and npx pass on a Ctrl-C that the terminal has sent already: two signals so close together are one. */
const SAME_MS = 500;

/** A signal that Ctrl-C aborts. `tidy` removes what must not be left over when the process ends at once. */
export function stopOnSignals(tidy: () => void): { readonly signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  let first = 0;
  const stop = (): void => {
    if (controller.signal.aborted) {
      if (performance.now() - first < SAME_MS) return;
      tidy();
      process.exit(EXIT.stopped);
    }
    process.stderr.write("\nstopping after this step; once more stops at once\n");
    first = performance.now();
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
