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
 * Text without what would steer a terminal: file names and the metadata of foreign pictures may hold such characters. Line
 * breaks, tabs and the colours of `styled` stay.
 */
export const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  text.replaceAll(/\x1b(?!\[\d{1,2}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]/g, "\ufffd");

/** Makes everything that goes through the console printable. */
export function guardTerminal(): void {
  for (const name of ["log", "error"] as const) {
    const write = console[name].bind(console);
    console[name] = (...parts: unknown[]) =>
      write(...parts.map((part) => (typeof part === "string" ? printable(part) : part)));
  }
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
