/** Colours on terminals, and none in pipes and files. */

/** Colours are for terminals, unless NO_COLOR (https://no-color.org) or TERM=dumb says otherwise. */
export const hasColours = (
  stream: { readonly isTTY?: boolean } = process.stdout,
  env: NodeJS.ProcessEnv = process.env,
): boolean => stream.isTTY === true && !env.NO_COLOR && env.TERM !== "dumb";

const CODES = { bold: [1, 22], red: [31, 39], green: [32, 39], yellow: [33, 39], dim: [2, 22] } as const;

/** Text in a style, or as it is where there are no colours. */
export function styled(text: string, style: keyof typeof CODES, colours = hasColours()): string {
  const [on, off] = CODES[style];
  return colours ? `\x1b[${on}m${text}\x1b[${off}m` : text;
}

/**
 * `tweedie … | head`: the reader of results has left, so there is nobody to work for, which is no error. Without a reader
 * of progress and messages the work goes on.
 */
export function endWithReader(): void {
  const onClosedPipe = (stream: NodeJS.WriteStream, act: () => void): void => {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      act();
    });
  };
  onClosedPipe(process.stdout, () => process.exit());
  onClosedPipe(process.stderr, () => undefined);
}
