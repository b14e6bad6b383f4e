/** A progress bar on standard error: one line that is rewritten on a terminal, a line now and then elsewhere. */

/** Seconds as people read them. */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const s = Math.max(0, Math.round(seconds));
  return s < 60 ? `${s} s` : `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}

export interface ProgressBar {
  /** Shows `done` of the total, with a note behind the bar. */
  update(done: number, note: string): void;
  /** Ends the line. */
  finish(): void;
}

/** A bar over `total` units of work. */
export function progressBar(
  label: string,
  total: number,
  stream: NodeJS.WriteStream = process.stderr,
): ProgressBar {
  const width = 24;
  const live = stream.isTTY === true;
  let lastPrinted = live ? 0 : Date.now();
  return {
    update(done, note) {
      const now = Date.now();
      if (now - lastPrinted < (live ? 50 : 5000) && done < total) return;
      lastPrinted = now;
      const filled = Math.round((width * done) / total);
      const line = `${label} [${"=".repeat(filled)}${" ".repeat(width - filled)}] ${done}/${total}  ${note}`;
      stream.write(live ? `\r${line.slice(0, (stream.columns ?? 100) - 1)}\x1b[K` : `${line}\n`);
    },
    finish() {
      if (live) stream.write("\n");
    },
  };
}
