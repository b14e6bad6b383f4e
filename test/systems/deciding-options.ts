/** What every `reproduce` must keep: an option that decides numbers decides the fingerprints of cells. */
import { expect } from "vitest";
import type { z } from "zod";
import { optionSchemas } from "../../src/systems/system.ts";
import { drained, type Work } from "../../src/work.ts";
import { type AskedCell, recordingStudy } from "../study/recording-study.ts";

type Options = Readonly<Record<string, unknown>>;

export interface StudyUnderTest {
  readonly schema: z.ZodObject;
  /** Small options to start from; the out folder is a temporary one. */
  readonly base: Options;
  /** The work of `reproduce` on a study that is given. */
  readonly run: (study: ReturnType<typeof recordingStudy>, options: never) => Work<unknown>;
  /** Values of the cells that are made up. */
  readonly valueFor: (cell: Omit<AskedCell, "id">) => unknown;
  /** Another value of every option that decides numbers, with what it needs beside it. */
  readonly deciding: Readonly<Record<string, Options>>;
  /** Another value of every option that decides none. */
  readonly undeciding: Readonly<Record<string, Options>>;
}

/** The cells that a study asks for with these options. */
export async function askedCells(
  { schema, base, run, valueFor }: StudyUnderTest,
  options: Options = {},
): Promise<AskedCell[]> {
  const study = recordingStudy(valueFor);
  await drained(run(study, schema.parse({ ...base, ...options }) as never));
  return study.cells;
}

const idsOf = (cells: readonly AskedCell[]): string[] => [...new Set(cells.map(({ id }) => id))].sort();

/** Every option of the schema is known to decide or not to decide, and does as it is known. */
export async function expectOptionsToDecide(study: StudyUnderTest): Promise<void> {
  const { schema, deciding, undeciding } = study;
  const declared = optionSchemas({ options: schema }).map(({ name }) => name);
  expect([...Object.keys(deciding), ...Object.keys(undeciding)].sort()).toEqual(declared.sort());
  const before = idsOf(await askedCells(study));
  for (const [name, other] of Object.entries(deciding))
    expect(idsOf(await askedCells(study, other)), `--${name} decides`).not.toEqual(before);
  for (const [name, other] of Object.entries(undeciding))
    expect(idsOf(await askedCells(study, other)), `--${name} does not decide`).toEqual(before);
}
