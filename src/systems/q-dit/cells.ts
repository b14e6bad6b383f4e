/** What is measured: every cell is a condition, a method, bits and group sizes. */
import type { MethodName } from "./schemes.ts";

export type Condition = "natural" | "stress";

export interface Cell {
  readonly condition: Condition;
  readonly method: MethodName | "fp32";
  readonly weights: number;
  readonly activations: number;
  /** One size, those that a search found (see `searchOf`), or none. */
  readonly groups: number | "searched" | "searched-gptq" | "random" | "none";
  /** Whether pictures are drawn; else only single predictions are compared. */
  readonly pictures: boolean;
  /** DDIM steps of the pictures. Default: those of the study. */
  readonly steps?: number;
}

export const cellName = ({ condition, method, weights, activations, groups, steps }: Cell): string =>
  [
    condition,
    method,
    ...(method === "fp32" ? [] : [`w${weights}a${activations}`, `g${groups}`]),
    ...(steps === undefined ? [] : [`s${steps}`]),
  ].join("-");

const cells = (
  condition: Condition,
  pictures: boolean,
  [weights, activations]: readonly [number, number],
  entries: readonly (readonly [MethodName, Cell["groups"]])[],
): Cell[] =>
  entries.map(([method, groups]) => ({ condition, method, weights, activations, groups, pictures }));

const fp32 = (condition: Condition): Cell => ({
  condition,
  method: "fp32",
  weights: 32,
  activations: 32,
  groups: "none",
  pictures: true,
});

const BASELINES = [
  ["tensor-static", "none"],
  ["channel-static", "none"],
  ["channel-token", "none"],
  ["repq", "none"],
  ["smooth", "none"],
  ["gptq-static", "none"],
] as const;
const GROUPED = [
  ["group-static", 64],
  ["group-dynamic", 64],
  ["q-dit", 64],
] as const;

/** What decides the claim, the most important first. */
export const CORE_CELLS: readonly Cell[] = [
  fp32("natural"),
  ...cells("natural", true, [4, 8], [["tensor-static", "none"], ...GROUPED]),
  fp32("stress"),
  ...cells(
    "stress",
    true,
    [4, 8],
    [
      ["tensor-static", "none"],
      ["q-dit", 64],
    ],
  ),
  ...cells("natural", true, [8, 8], [["q-dit", 64]]),
  ...cells("natural", true, [6, 8], [["q-dit", 64]]),
  ...(["natural", "stress"] as const).flatMap((condition) =>
    cells(
      condition,
      false,
      [4, 8],
      [
        ...BASELINES,
        ...GROUPED,
        ["q-dit", 32],
        ["gptq-static-in-order", "none"],
        ["q-dit-in-order", 64],
        ["q-dit-in-order", 32],
      ],
    ),
  ),
];

/** The rest: other bits, more baselines with pictures. */
export const FURTHER_CELLS: readonly Cell[] = [
  ...cells("natural", true, [4, 8], [["gptq-static", "none"]]),
  ...cells("stress", true, [4, 8], [["gptq-static", "none"]]),
  ...cells("natural", true, [8, 8], [["tensor-static", "none"]]),
  ...cells("natural", true, [6, 8], [["tensor-static", "none"]]),
  ...(["natural", "stress"] as const).flatMap((condition) =>
    ([8, 6, 3] as const).flatMap((bits) =>
      cells(condition, false, [bits, 8], [...BASELINES, ...GROUPED, ["q-dit", 32]]),
    ),
  ),
  ...(["natural", "stress"] as const).flatMap((condition) =>
    cells(condition, false, [4, 4], [["tensor-static", "none"], ["channel-static", "none"], ...GROUPED]),
  ),
];

/** Whether more steps help or hurt: errors add up, but each is smaller. */
export const STEP_CELLS: readonly Cell[] = [10, 20, 50, 100].flatMap((steps) =>
  [
    fp32("natural"),
    ...cells(
      "natural",
      true,
      [4, 8],
      [
        ["tensor-static", "none"],
        ["q-dit", 64],
      ],
    ),
    ...cells("natural", true, [8, 8], [["q-dit", 64]]),
  ].map((cell) => ({ ...cell, steps })),
);

/** A search for group sizes: on which model, and how weights are rounded while candidates are judged. */
export interface SearchSetup {
  readonly condition: Condition;
  readonly method: "group-dynamic" | "q-dit";
}

/** Rounding to nearest as in the released code; then as in the end, where little and where much is lost. */
export const SEARCHES: readonly SearchSetup[] = [
  { condition: "natural", method: "group-dynamic" },
  { condition: "natural", method: "q-dit" },
  { condition: "stress", method: "q-dit" },
];

export const searchName = ({ condition, method }: SearchSetup): string => `search-${condition}-${method}`;

/** The search that found the group sizes of a cell: "searched-gptq" is that of its own condition. */
export const searchOf = ({ condition, groups }: Cell): SearchSetup =>
  groups === "searched-gptq" ? { condition, method: "q-dit" } : SEARCHES[0]!;

/** What is measured with the sizes that the searches found. */
export const SEARCHED_CELLS: readonly Cell[] = [
  ...cells(
    "natural",
    true,
    [4, 8],
    [
      ["q-dit", "searched"],
      ["group-dynamic", "searched"],
    ],
  ),
  ...cells("natural", false, [4, 8], [["q-dit", "random"]]),
  ...cells("natural", true, [4, 8], [["q-dit", "searched-gptq"]]),
  ...cells("stress", true, [4, 8], [["q-dit", "searched-gptq"]]),
];
