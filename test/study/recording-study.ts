/** A study that makes nothing: it notes which cells are asked for, with all that decides them, and gives made-up values. */
import { fingerprint, type Made, type Provenance, type Study } from "../../src/study/index.ts";
import type { Work } from "../../src/work.ts";

export interface AskedCell {
  readonly kind: "model" | "measure";
  readonly name: string;
  readonly given: Readonly<Record<string, unknown>>;
  /** Names of the cells that it is made of. */
  readonly from: readonly string[];
  readonly id: string;
}

/** What the code of a study asks for, in order; `valueFor` says what each cell holds. */
export function recordingStudy(
  valueFor: (cell: Omit<AskedCell, "id">) => unknown,
): Study & { readonly cells: AskedCell[] } {
  const cells: AskedCell[] = [];
  async function* ask<T>(
    kind: AskedCell["kind"],
    name: string,
    { given = {}, from = [] }: { given?: object; from?: readonly Made<unknown>[] },
  ): Work<Made<T>> {
    const cell = { kind, name, given: { ...given }, from: from.map((made) => made.name) };
    const id = fingerprint({ ...cell, from: from.map((made) => made.id) });
    cells.push({ ...cell, id });
    return { value: valueFor(cell) as T, name, id, date: "2000-01-01T00:00:00.000Z" };
  }
  return {
    cells,
    model: (name, cell) => ask("model", name, cell),
    measure: (name, cell) => ask("measure", name, cell),
    share: (items) => items,
    partial: false,
    get used(): Provenance[] {
      const machine = { processor: "none", cores: 1, node: "0" };
      return cells.map(({ name, id }) => ({
        name,
        id,
        date: "2000-01-01T00:00:00.000Z",
        machine,
        code: "0",
      }));
    },
  };
}
