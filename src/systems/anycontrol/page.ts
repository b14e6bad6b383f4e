/** The page of the study, and the one line for the README. */
import {
  type Row as Compared,
  comparisonTable,
  mean,
  numberText,
  tableOf,
  type Values,
  type Verdict,
} from "../../study/index.ts";
import type { Table } from "../../work.ts";
import type { StudyPage } from "../reproduce.ts";
import { ARMS, type ArmName } from "./arms.ts";
import type { Asking, Scores } from "./measure.ts";
import type { Found, Row } from "./rules.ts";

const OTHERS: Readonly<Partial<Record<Row, string>>> = {
  none: "no condition",
  real: "real scenes, as the networks that judge read them",
  summed: "Multi-ControlNet: four single ControlNets, summed",
  averaged: "Multi-ControlNet: four single ControlNets, averaged",
};
const about = (row: Row): string => OTHERS[row] ?? ARMS[row as ArmName].about;
const own = (found: Found, row: Row): Scores | undefined =>
  found.scores[row]?.[row === "none" || row === "real" ? "none" : "unaligned"];

const text = (values: readonly number[] | undefined): string | undefined =>
  values && numberText(mean(values), 3);
const columns = {
  "near thing, IoU": ({ foreground }: Scores) => text(foreground),
  "its outlines, F1": ({ edges }: Scores) => text(edges),
  "background, mIoU": ({ background }: Scores) => text(background),
  "depth error": ({ depth }: Scores) => text(depth),
  "captions right": ({ captions }: Scores) => text(captions),
  "Fréchet distance": ({ frechet }: Scores) => numberText(frechet, 3),
};

const byScene = (values: readonly number[] | undefined): Values | undefined =>
  values && Object.fromEntries(values.map((value, i) => [`scene ${i}`, value]));

const ROWS: readonly Row[] = [
  "full",
  "summed",
  "averaged",
  "joint",
  "-unaligned",
  "uni",
  "uni, unaligned",
  "-alignment",
  "-fusion",
  "one level",
  "-shared P",
];

/** Overlap with the near thing beside floor, ceiling and strongest rival, in pairs of scenes. */
function foregroundTable(found: Found): Table {
  const row = (name: Row): Compared => ({ name: about(name), values: byScene(own(found, name)?.foreground) });
  return comparisonTable({
    judge: { name: "IoU with the near thing", better: "higher" },
    over: "test scenes",
    method: row("full"),
    floor: row("none"),
    ceiling: row("real"),
    rival: row("joint"),
    secondJudge: { none: "nothing was trained on this judge; the others are in the table of scores" },
    others: ROWS.filter((name) => name !== "full" && name !== "joint").map(row),
  });
}

function scoresTable(found: Found): Table {
  const rows = (["real", ...ROWS, "none"] as const).flatMap((row): [string, Scores][] => {
    const scores = own(found, row);
    return scores ? [[about(row), scores]] : [];
  });
  return tableOf("unaligned conditions", new Map(rows), columns);
}

const ASKED: Readonly<Record<Asking, string>> = {
  none: "none",
  background: "1: background alone",
  unaligned: "2: background and near thing, unaligned",
  two: "2: depth and edge of the whole scene",
  three: "3: and seg",
  four: "4: and pose",
};

/** AnyControl by number of conditions. */
function countTable(found: Found): Table {
  const of = (asking: Asking): Scores | undefined =>
    found.scores[asking === "none" ? "none" : "full"]?.[asking];
  const rows = (Object.keys(ASKED) as Asking[]).flatMap((asking): [string, Scores][] => {
    const scores = of(asking);
    return scores ? [[ASKED[asking], scores]] : [];
  });
  const single = found.scores.summed?.background;
  if (single) rows.push(["1: a ControlNet of its own", single]);
  return tableOf("conditions", new Map(rows), columns);
}

/** The page. */
export function pageOf(
  found: Found,
  verdicts: readonly Verdict[],
  { seeds }: { readonly seeds: readonly number[] },
  { steps, batch, test }: { readonly steps: number; readonly batch: number; readonly test: number },
): StudyPage {
  const failed = verdicts.filter(({ judged }) => judged?.holds === false).map(({ name }) => name);
  const length = `${steps} steps of ${batch}, ${seeds.length} seed${seeds.length === 1 ? "" : "s"}, ${test} scenes`;
  const { cost } = found;
  return {
    title: "AnyControl in miniature, measured",
    finding: failed.length > 0 ? `Does not hold: ${failed.join("; ")}.` : "",
    verdicts,
    tables: {
      "The near thing, in pairs": foregroundTable(found),
      [`Scores (${length})`]: scoresTable(found),
      "AnyControl with 0 to 4 conditions": countTable(found),
      ...(cost && {
        "Time of a sampling step of 4 pictures with guidance": {
          columns: ["network", "ms, fastest"],
          rows: [
            ["base", numberText(cost.base)],
            ["base and adapter", numberText(cost.steered)],
          ],
        },
      }),
    },
    data: found,
  };
}

/** Overlap with the near thing, and what it is to be compared with. */
export function headlineOf(found: Found): string {
  const value = (row: Row): string => text(own(found, row)?.foreground) ?? "not measured";
  return `IoU with the near thing of unaligned conditions ${value("full")}; four ControlNets trained jointly ${value("joint")}, no condition ${value("none")}`;
}
