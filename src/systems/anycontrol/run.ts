/** What `run` does: pictures of a prompt under any mix of conditions. */
import { tensorToPictures } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import { grid } from "../../report/index.ts";
import type { Work } from "../../work.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import type { Condition } from "./data.ts";
import { baseOf, modelOf, type ReadCondition, readConditions } from "./files.ts";
import type { RunActionOptions } from "./options.ts";
import { type ControlType, TYPES } from "./types.ts";
import { drawControlled, type Wanted } from "./use.ts";

/** Strengths of conditions from TYPE=S and S. @throws ArgumentError for what is neither, or has no condition */
export function readStrengths(given: readonly string[], conditions: readonly Condition[]): number[] {
  const of = new Map<ControlType, number>();
  let all = 1;
  for (const text of given) {
    const found = /^(?:([a-z]+)=)?(\d*\.?\d+)$/.exec(text.trim());
    const value = Number(found?.[2]);
    if (!found || !(value >= 0 && value <= 2))
      throw new ArgumentError(
        `strength "${text}": expected TYPE=S or S with S from 0 to 2, such as depth=0.8`,
      );
    const type = TYPES.find((one) => one === found[1]);
    if (found[1] === undefined) all = value;
    else if (!type)
      throw new ArgumentError(`strength "${text}": no type "${found[1]}"; known are ${TYPES.join(", ")}`);
    else if (!conditions.some((one) => one.type === type))
      throw new ArgumentError(`strength "${text}": there is no condition of type ${type}`);
    else of.set(type, value);
  }
  return conditions.map(({ type }) => all * (of.get(type) ?? 1));
}

/** Factors of residuals from "1,0.5,…"; one value counts for all. @throws ArgumentError for others than there are residuals */
function readLevels(text: string | undefined, residuals: number): number[] | undefined {
  if (text === undefined) return undefined;
  const values = text.split(",").map(Number);
  const full = values.length === 1 ? new Array<number>(residuals).fill(values[0]!) : values;
  if (full.length !== residuals || full.some((v) => !(v >= 0 && v <= 2)))
    throw new ArgumentError(
      `levels "${text}": expected ${residuals} factors from 0 to 2 (or one for all), from the top to the middle`,
    );
  return full;
}

/** A map as a picture. */
export const mapPicture = ({ map }: Pick<Condition, "map">, size: number): Picture => ({
  ...{ width: size, height: size, channels: 3 },
  data: Uint8Array.from(map, (v) => Math.round(255 * Math.min(1, Math.max(0, v)))),
});

/** What should be known of what was given, before it is used. */
const notesOf = (conditions: readonly ReadCondition[], unknown: readonly string[]): string[] => [
  ...conditions.flatMap(({ notes }) => notes),
  ...(unknown.length > 0 ? [`words that the base has not seen: ${unknown.join(", ")}`] : []),
];

/** Makes pictures of a prompt under conditions. */
export async function* runAction(options: RunActionOptions, { signal }: ActionContext): Work<ActionResult> {
  const { prompt, control, extract, strength, count, steps, guidance, negative, seed, threads } = options;
  const base = await baseOf(options.base, { threads });
  try {
    const model = control.length > 0 ? await modelOf(options.model, base) : undefined;
    const conditions = await readConditions(control, base.size, extract);
    for (const text of notesOf(conditions, base.unknownWords(prompt))) yield { type: "warning", text };
    const strengths = readStrengths(strength, conditions);
    const residuals =
      1 + ((model?.config.unet.block_out_channels as readonly number[] | undefined) ?? []).length * 2;
    const levels = readLevels(options.levels, residuals);
    const wanted: Wanted = { caption: prompt, conditions, strengths };
    const startedAt = performance.now();
    const run = drawControlled(base, model, new Array<Wanted>(count).fill(wanted), {
      ...{ steps, guidance, negative, seed, levels, threads, signal },
    });
    const drawn = await tensorToPictures(yield* run);
    const seconds = (performance.now() - startedAt) / 1000;
    for (const [i, picture] of drawn.entries()) yield { type: "picture", name: `picture-${i + 1}`, picture };
    const maps = conditions.map((one) => mapPicture(one, base.size));
    if (maps.length > 0) {
      const scale = Math.max(1, Math.floor(96 / base.size));
      yield { type: "picture", name: "conditions", picture: grid(maps, { columns: maps.length, scale }) };
    }
    const told = conditions.length === 0 ? "no condition" : conditions.map(({ type }) => type).join(", ");
    return {
      summary: `${count} picture${count === 1 ? "" : "s"} under ${told}, ${seconds.toFixed(1)} s.`,
      metrics: { pictures: count, conditions: conditions.length, seconds },
    };
  } finally {
    await base.close();
  }
}
