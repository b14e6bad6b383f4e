/** Work that tells of itself by calls, as a generator that others can iterate. */

/** Runs `work` and yields what it tells, in order; returns what comes of it. Work is stopped by its own signal. */
export async function* watched<T, R>(work: (tell: (what: T) => void) => Promise<R>): AsyncGenerator<T, R> {
  const told: T[] = [];
  let wake = (): void => {};
  let ended = false;
  const result = work((what) => {
    told.push(what);
    wake();
  }).finally(() => {
    ended = true;
    wake();
  });
  result.catch(() => {}); // told below, when somebody still listens
  for (;;) {
    yield* told.splice(0);
    if (ended && told.length === 0) return result;
    if (told.length === 0)
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (ended) resolve();
      });
  }
}
