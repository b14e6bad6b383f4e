/** The tables of the study, and the one line for the README. */
import { RESTORATION_CONVENTIONS } from "../../metrics/index.ts";
import {
  type Row as ComparedRow,
  comparisonTable,
  mean,
  numberText,
  tableOf,
  type Values,
} from "../../study/index.ts";
import type { Table } from "../../work.ts";
import { ARM_NAMES, ARMS } from "./arms.ts";
import type { Plan, SetScores } from "./lab.ts";
import { type DomainFound, type Found, psnrOf, type Row, recovered, tuned } from "./rules.ts";

const aboutOf = (row: Row): string =>
  row === "input"
    ? "the degraded picture"
    : row === "start"
      ? "the network that all begin with"
      : `${row}: ${ARMS[row].about}`;

const text = (values: readonly number[] | undefined, digits = 4): string | undefined =>
  values && numberText(mean(values), digits);

const ROWS: readonly Row[] = ["input", "start", ...ARM_NAMES];
type Scores = Readonly<Partial<Record<Row, SetScores>>>;

/** Means over pictures and seeds. */
const scoresTable = (
  rows: Scores,
  more: Readonly<Record<string, (row: Row) => string | undefined>> = {},
): Table =>
  tableOf("way", new Map(ROWS.filter((row) => rows[row]).map((row) => [aboutOf(row), row])), {
    "PSNR, dB": (row) => text(rows[row]!.psnr),
    SSIM: (row) => text(rows[row]!.ssim),
    LPIPS: (row) => text(rows[row]!.lpips),
    "TV ratio, clean is 1": (row) => text(rows[row]!.detail, 3),
    ...more,
  });

const byPicture = (values: readonly number[] | undefined): Values | undefined =>
  values && Object.fromEntries(values.map((value, i) => [`picture ${i}`, value]));

/** PSNR of Noise-DA beside floor, ceiling and rivals, in pairs of pictures. */
function pairsTable(found: DomainFound): Table {
  const row = (name: Row): ComparedRow => ({ name: aboutOf(name), values: byPicture(psnrOf(found, name)) });
  const rival = tuned(found, "tv");
  const named: readonly Row[] = ["noise-da", "vanilla", "oracle", ...(rival ? [rival] : [])];
  const others = ARM_NAMES.filter((name) => !named.includes(name) && psnrOf(found, name));
  return comparisonTable({
    judge: { name: "PSNR", better: "higher", unit: "dB" } as never,
    over: "test pictures",
    method: row("noise-da"),
    floor: row("vanilla"),
    ceiling: row("oracle"),
    rival: rival ? row(rival) : { none: "total variation was not measured" },
    secondJudge: { none: "SSIM and LPIPS are in the table of scores" },
    others: others.map(row),
  });
}

/** All tables by title. */
export function tablesOf(found: Found, { seeds, settings, startSteps }: Plan): Record<string, Table> {
  const length = `${startSteps} and ${settings.steps} steps, ${seeds.length === 1 ? "one seed" : `${seeds.length} seeds`}`;
  const tables: Record<string, Table> = {};
  for (const [on, own] of Object.entries(found)) {
    const { test, synthetic, validation } = own.sets;
    if (!test) continue;
    tables[`${on}: real test pictures after ${length}`] = scoresTable(test, {
      "share of the gap": (row) => {
        const share = recovered(own, row);
        return share === undefined ? undefined : numberText(share, 3);
      },
      "PSNR, synthetic": (row) => text(synthetic?.[row]?.psnr),
      "PSNR, validation": (row) => text(validation?.[row]?.psnr),
    });
    if (psnrOf(own, "noise-da")) tables[`${on}: PSNR in pairs`] = pairsTable(own);
    if (Object.keys(own.transfer).length > 0)
      tables[`${on}: photographs with real damage`] = scoresTable(own.transfer);
  }
  tables["What the scores are"] = {
    columns: ["score", "convention"],
    rows: [
      ...Object.entries(RESTORATION_CONVENTIONS).slice(0, 2),
      ["lpips", "LPIPS v0.1 with SqueezeNet; pictures under 100 pixels are enlarged twice"],
      [
        "TV ratio",
        "mean slope of the restored picture over that of the clean one: above 1 noise is left, below it is smoothed",
      ],
      ["share of the gap", "(arm - vanilla) / (oracle - vanilla), of mean PSNR"],
    ],
  };
  return tables;
}

/** PSNR of Noise-DA on the first domain, and what it is to be compared with. */
export function headlineOf({ found }: { readonly found: Found }): string {
  const [on, own] = Object.entries(found)[0] ?? [];
  if (!own) return "not measured";
  const psnr = (row: Row | undefined): string => text(psnrOf(own, row), 2) ?? "not measured";
  if (!psnrOf(own, "noise-da"))
    return `adaptation not measured; PSNR of real pictures (${on}) without it ${psnr("vanilla")} dB, with their truth ${psnr("oracle")}`;
  return `PSNR of real pictures (${on}) ${psnr("noise-da")} dB; without adaptation ${psnr("vanilla")}, with a tuned TV penalty ${psnr(tuned(own, "tv"))}, with their truth ${psnr("oracle")}`;
}
