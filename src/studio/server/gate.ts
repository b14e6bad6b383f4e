/** Runs at most so many of what is given at once; the others wait for their turn. */
export function openGate(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let inside = 0;
  return async (work) => {
    if (inside >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    else inside++;
    try {
      return await work();
    } finally {
      const next = waiting.shift(); // who waits takes over the place
      if (next) next();
      else inside--;
    }
  };
}
