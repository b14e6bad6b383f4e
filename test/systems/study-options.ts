/** What must hold of the options of every study: each one decides a result, or is listed among those that do not. */
import { expect } from "vitest";
import type { z } from "zod";
import { optionSchemas } from "../../src/systems/system.ts";
import type { AskedCell } from "../study/recording-study.ts";

export interface StudyCase {
  readonly system: string;
  readonly schema: z.ZodObject;
  /** Another value for every option that decides something. */
  readonly changes: Readonly<Record<string, unknown>>;
  /** Options that change no result: where and how the work is done. */
  readonly doesNotDecide: readonly string[];
  /** What the study asks for under options that are laid over those that the case begins with. */
  asked(options: Readonly<Record<string, unknown>>): Promise<readonly AskedCell[]>;
}

const idsOf = (cells: readonly AskedCell[]): string => [...new Set(cells.map(({ id }) => id))].sort().join();

/** Every option of the schema is in exactly one of both lists, and does what its list says. */
export async function expectOptionsToDecide(one: StudyCase): Promise<void> {
  const names = optionSchemas({ options: one.schema }).map(({ name }) => name);
  expect([...Object.keys(one.changes), ...one.doesNotDecide].sort(), one.system).toEqual([...names].sort());
  const standard = idsOf(await one.asked({}));
  for (const [name, value] of Object.entries(one.changes))
    expect(idsOf(await one.asked({ [name]: value })), `${one.system}: ${name} decides nothing`).not.toBe(
      standard,
    );
  for (const name of one.doesNotDecide) {
    const other = { threads: 2, shard: "1/1", work: "elsewhere", out: "elsewhere" }[name] ?? "other";
    expect(idsOf(await one.asked({ [name]: other })), `${one.system}: ${name} decides something`).toBe(
      standard,
    );
  }
}
