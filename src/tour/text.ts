/** Numbers of the tour as people read them. */
import type { SystemRow } from "./summary.ts";

type Quality = Extract<SystemRow, { status: "done" }>["quality"][number];

const rounded = (value: number): string => {
  const digits = Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  return digits.replace("-", "−");
};

/** Keeps a number and its unit on one line. */
const FIXED_SPACE = "\u00a0";

/** `0.861`, `31.2 dB`. */
export const valueText = (value: number, unit?: string): string =>
  unit === undefined ? rounded(value) : `${rounded(value)}${FIXED_SPACE}${unit}`;

/** Whether a value is on the better side of its baseline; undefined without one, and for a tie. */
export function beats({ value, baseline, better }: Quality): boolean | undefined {
  if (!baseline || baseline.value === value) return undefined;
  return value > baseline.value === (better === "higher");
}

/** `Dice, one step 0.861 (50 steps: 0.84)`. */
export function qualityText({ name, value, unit, baseline }: Quality): string {
  const against = baseline ? ` (${baseline.name}: ${valueText(baseline.value, unit)})` : "";
  return `${name} ${valueText(value, unit)}${against}`;
}

/** Seconds to one place, from two minutes on as minutes and seconds. */
export function secondsText(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(1)}${FIXED_SPACE}s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}${FIXED_SPACE}min ${whole % 60}${FIXED_SPACE}s`;
}
