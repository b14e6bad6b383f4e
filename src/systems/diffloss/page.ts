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
import { ARMS, type ArmName } from "./arms.ts";
import type { Plan } from "./lab.ts";
import { type Found, GATE, type Row, type SetName, type SetScores, type TaskFound } from "./rules.ts";
import { BANDS, bandName } from "./train.ts";

const aboutOf = (row: Row): string =>
  row === "input"
    ? "the degraded picture"
    : row === "start"
      ? "the network that all begin with"
      : `${row}: ${ARMS[row].about}`;

const meanText = (values: readonly number[] | undefined, digits = 4): string | undefined =>
  values && numberText(mean(values), digits);

/** Means over test pictures and seeds. */
function scoresTable(rows: Readonly<Partial<Record<Row, SetScores>>>): Table {
  return tableOf("way", new Map(Object.entries(rows).map(([row, one]) => [aboutOf(row as Row), one])), {
    "PSNR, dB": ({ psnr }) => meanText(psnr, 3),
    SSIM: ({ ssim }) => meanText(ssim),
    LPIPS: ({ lpips }) => meanText(lpips),
    "detail, clean is 1": ({ detail }) => meanText(detail, 3),
  });
}

const byPicture = (values: readonly number[] | undefined): Values | undefined =>
  values && Object.fromEntries(values.map((value, i) => [`picture ${i}`, value]));

/** LPIPS of DiffLoss beside its rivals, in pairs of pictures. */
function lpipsTable(rows: Readonly<Partial<Record<Row, SetScores>>>): Table {
  const row = (name: Row): ComparedRow => ({ name: aboutOf(name), values: byPicture(rows[name]?.lpips) });
  const others = (Object.keys(ARMS) as ArmName[]).filter((name) => name !== "full" && name !== "gradient");
  return comparisonTable({
    judge: { name: "LPIPS", better: "lower" },
    over: "test pictures",
    method: row("full"),
    floor: row("input"),
    ceiling: { none: "the clean picture, whose distance from itself is 0" },
    rival: row("gradient"),
    secondJudge: { none: "PSNR and SSIM are in the table of scores; nothing was trained on LPIPS" },
    others: [row("start"), ...others.map(row)],
  });
}

function recognitionTable({ recognition }: TaskFound): Table {
  return tableOf(
    "way",
    new Map(Object.entries(recognition).map(([row, one]) => [aboutOf(row as Row), one])),
    {
      "answers as of the clean room": ({ agreement }) => meanText(agreement, 3),
      "divergence of the answers": ({ divergence }) => meanText(divergence, 4),
    },
  );
}

const gateTable = (found: Found): Table =>
  tableOf(
    "timesteps",
    new Map(BANDS.map((band, i) => [bandName(band), [found.gate?.[bandName(band)], GATE[i]] as const])),
    {
      "error of the noise": ([own]) => own && numberText(own),
      "a sufficient prior": ([, other]) => other,
    },
  );

/** All tables by title. */
export function tablesOf(found: Found, { seeds, settings }: Plan): Record<string, Table> {
  const length = `${settings.steps} steps, ${seeds.length === 1 ? "one seed" : `${seeds.length} seeds`}`;
  const tables: Record<string, Table> = { "The prior on rooms": gateTable(found) };
  for (const [task, own] of Object.entries(found.tasks)) {
    for (const [set, rows] of Object.entries(own.scores) as [SetName, Partial<Record<Row, SetScores>>][]) {
      tables[`${task}, ${set}: scores after ${length}`] = scoresTable(rows);
      if (rows.full?.lpips) tables[`${task}, ${set}: LPIPS in pairs`] = lpipsTable(rows);
    }
    tables[`${task}: how rooms are recognised`] = recognitionTable(own);
  }
  tables["What the scores are"] = {
    columns: ["score", "convention"],
    rows: [
      ...Object.entries(RESTORATION_CONVENTIONS).slice(0, 2),
      [
        "lpips",
        "LPIPS v0.1 with SqueezeNet of the restored picture in [-1, 1]; pictures under 100 pixels are enlarged twice",
      ],
      ["detail", "mean slope of the restored picture over that of the clean one"],
    ],
  };
  return tables;
}

/** LPIPS of DiffLoss on rain, and what it is to be compared with. */
export function headlineOf({ tasks }: Found): string {
  const [task, own] = Object.entries(tasks)[0] ?? [];
  const rows = own?.scores.photographs ?? own?.scores["our own pictures"];
  const text = (row: Row): string =>
    meanText(rows?.[row]?.lpips, 4) ?? meanText(rows?.[row]?.psnr, 2) ?? "not measured";
  return `LPIPS after ${task} ${text("full")}; with L1 alone ${text("pixels")}, with a loss of the gradients and no network ${text("gradient")}`;
}
