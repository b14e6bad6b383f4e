/** Tables of results. */
import type { Table } from "../work.ts";
import { NOT_MEASURED } from "./rules.ts";

/** What stands in a cell; undefined is printed as "not measured". */
export type CellValue = number | string | undefined;

/** One row for each entry; `first` is the heading of the names, the others are computed from the row. */
export const tableOf = <Row>(
  first: string,
  rows: ReadonlyMap<string, Row>,
  columns: Readonly<Record<string, (row: Row) => CellValue>>,
): Table => ({
  columns: [first, ...Object.keys(columns)],
  rows: Array.from(rows, ([name, row]) => [
    name,
    ...Object.values(columns).map((cell) => cell(row) ?? NOT_MEASURED),
  ]),
});
