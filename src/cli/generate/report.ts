/** Progress messages of `tweedie generate`: for people, or as lines of JSON. */
import type { Seed } from "../../tensor/index.ts";
import { formatSeconds, progressBar } from "../progress.ts";

export interface Report {
  /** A seed that was chosen and not given. */
  seed(seed: Seed): void;
  warning(text: string): void;
  /** `done` of `total` steps of all pictures. */
  progress(done: number, total: number): void;
  /** A picture is written. */
  picture(path: string, facts: Readonly<Record<string, unknown>>): void;
  finish(): void;
}

/** Paths on standard output, everything else on standard error. */
export function textReport(totalSteps: number): Report {
  const bar = progressBar("generate", totalSteps);
  const startedAt = performance.now();
  return {
    seed: (seed) => console.error(`seed ${seed}`),
    warning: (text) => console.error(`warning: ${text}`),
    progress(done, total) {
      const secondsEach = (performance.now() - startedAt) / 1000 / done;
      bar.update(done, `${formatSeconds(secondsEach * (total - done))} left`);
    },
    picture: (path) => console.log(path),
    finish: () => bar.finish(),
  };
}

/** One object per line on standard output. */
export function jsonReport(): Report {
  const line = (value: object): void => console.log(JSON.stringify(value));
  return {
    seed: (seed) => line({ type: "seed", seed: String(seed) }),
    warning: (text) => line({ type: "warning", text }),
    progress: (done, total) => line({ type: "progress", stage: "generate", done, total }),
    picture: (path, facts) => line({ type: "picture", path, ...facts }),
    finish: () => undefined,
  };
}
