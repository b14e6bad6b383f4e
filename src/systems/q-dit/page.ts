/** The tables of the study's page. */
import {
  comparisonTable,
  mean,
  NOT_MEASURED,
  type Row,
  spread,
  tableOf,
  type Values,
} from "../../study/index.ts";
import type { Table } from "../../work.ts";
import {
  bitsText,
  CORE,
  type Form,
  FURTHER,
  form,
  formName,
  groupsText,
  pictureName,
  SEARCHED,
  SEARCHES,
  searchName,
  type View,
  viewText,
} from "./cells.ts";
import type { DrawingSettings } from "./lab.ts";
import { type Found, JUDGES, ratioOf, scoresOf } from "./rules.ts";
import { bySlices } from "./scores.ts";

const fixed = (value: number | undefined, digits: number): string | undefined => value?.toFixed(digits);

const FIRST = { name: "FD", better: "lower" } as const;
const SECOND = { name: "FD in features of a second network", better: "lower" } as const;

/** One way to draw against the trivial, the best and the strongest other ones, in pairs of seeds. */
function comparisonsOf(found: Found, seeds: readonly number[]): Record<string, Table> {
  const bySeed = (values: readonly number[]): Values =>
    Object.fromEntries(values.map((value, i) => [`seed ${seeds[i]}`, value]));
  const row = (one: Form, name = formName(one)): Row => {
    const scores = scoresOf(found, one);
    return { name, ...(scores && { values: bySeed(scores.first), second: bySeed(scores.second) }) };
  };
  const [first, second] = found.means ?? [];
  const means: Row = {
    name: "mean picture of each class",
    ...(first !== undefined && second !== undefined && { values: { all: first }, second: { all: second } }),
  };
  const common = { judge: FIRST, over: "seeds", secondJudge: SECOND } as const;
  const tables: Record<string, Table> = {};
  for (const condition of ["natural", "stress"] as const) {
    const others = [form(condition, "gptq-static"), form(condition, "group-static")];
    tables[`Pictures at W4A8, ${condition} model`] = comparisonTable({
      ...common,
      method: row(form(condition, "q-dit")),
      floor: row(form(condition, "tensor-static")),
      ceiling: row(form(condition, "fp32")),
      rival: row(form(condition, "group-dynamic")),
      others: [...others.map((one) => row(one)), means],
    });
  }
  for (const search of SEARCHES) {
    const { condition, method } = search;
    const of = (groups: Form["groups"]): Row =>
      row(form(condition, method, { weights: 4, activations: 8 }, groups));
    tables[`Searched group sizes, ${searchName(search)}`] = comparisonTable({
      ...common,
      method: of({ by: method, take: "best" }),
      floor: of({ by: method, take: "random" }),
      ceiling: row(form(condition, "fp32")),
      rival: of(64),
    });
  }
  return tables;
}

function picturesTable(found: Found, drawn: readonly (readonly [Form, View])[]): Table {
  const rows = new Map(drawn.map((row) => [pictureName(...row), row]));
  return tableOf("pictures", rows, {
    ...Object.fromEntries(
      JUDGES.map((which) => [
        `FD, ${which} judge`,
        ([one, view]: (typeof drawn)[number]) => {
          const scores = scoresOf(found, one, view);
          return scores && spread(scores[which], "seeds").text;
        },
      ]),
    ),
    "of the right class": ([one, view]) => {
      const scores = scoresOf(found, one, view);
      return scores && fixed(mean(scores.agreement), 3);
    },
    "PSNR to fp32, dB": ([one, view]) => {
      const scores = scoresOf(found, one, view);
      return scores && (one.method === "fp32" ? "itself" : fixed(mean(scores.ratio), 1));
    },
  });
}

/** Errors of single predictions: a row for each method and group size, a column for each number of bits. */
function predictionsTable(found: Found, forms: readonly Form[]): Table {
  const bits = [...new Map(forms.map((one) => [bitsText(one.bits), one.bits])).values()];
  const rows = new Map(forms.map((one) => [[one.method, groupsText(one)].filter(Boolean).join(" "), one]));
  const cell = (one: Form, of: Form["bits"]): string | undefined => {
    const asked = { ...one, bits: of };
    return forms.some((other) => formName(other) === formName(asked)) ? fixed(ratioOf(found, asked), 2) : "";
  };
  return tableOf(
    "method",
    rows,
    Object.fromEntries(bits.map((of) => [bitsText(of), (one: Form) => cell(one, of)])),
  );
}

/** The same over thirds of the steps. */
const slicesTable = (found: Found, forms: readonly Form[]): Table =>
  tableOf(
    "method",
    new Map(forms.map((one) => [formName(one), found.predictions[formName(one)]])),
    Object.fromEntries(
      ["noisiest third", "middle third", "cleanest third"].map((name, i) => [
        name,
        (values: readonly number[] | undefined) => values && fixed(bySlices(values, 3)[i], 2),
      ]),
    ),
  );

const searchTable = (found: Found): Table => ({
  columns: ["search", "generation", "best distance", "candidates so far", "group sizes: qkv, out, fc1, fc2"],
  rows: SEARCHES.flatMap((search) => {
    const name = searchName(search);
    const result = found.searches[name];
    if (!result) return [[name, NOT_MEASURED, null, null, null]];
    const { best, history, fitness } = result;
    return [
      [name, "uniform", fixed(fitness.uniform, 2)!, null, null],
      [name, "random, as many", fixed(fitness.random, 2)!, null, null],
      ...history.map((g, i) => {
        const sizes = i === history.length - 1 ? best.join(" ") : null;
        return [name, String(g.generation), fixed(g.best, 2)!, String(g.evaluated), sizes];
      }),
    ];
  }),
});

const packedTable = (found: Found): Table =>
  tableOf("model", new Map(Object.entries(found.packed)), {
    "file, bytes": (m) => String(m.fileBytes),
    "of f32": (m) => fixed(m.share, 3),
    "tensors, bytes": (m) => String(m.memoryBytes),
    "peak of a process, MiB": (m) => fixed(m.peakBytes / 2 ** 20, 0),
    "ONNX, bytes": (m) => String(m.onnxBytes),
    "agreement with its simulation, dB": (m) => (m.agreement === undefined ? "" : fixed(m.agreement, 1)),
    "with fp32, dB": (m) => (Number.isFinite(m.ratio) ? fixed(m.ratio, 1) : "the same"),
  });

const timesTable = (found: Found): Table =>
  tableOf("model", new Map(Object.entries(found.stepTimes ?? {})), { "a step": (times) => times.text });

const layerTable = (layers: Found["layers"][string]): Table => {
  const [floats] = layers;
  return tableOf("layer", new Map(layers.map((one) => [one.name, one])), {
    time: ({ times }) => times.text,
    "speed-up, medians": ({ times }) => fixed(floats!.times.median / times.median, 2),
    "speed-up, fastest": ({ times }) => fixed(floats!.times.fastest / times.fastest, 2),
    "ONNX, bytes": ({ bytes }) => String(bytes),
    "of f32": ({ bytes }) => fixed(bytes / floats!.bytes, 3),
  });
};

/** Pictures of the natural model in few bits, and in all of them. */
export function headlineOf(found: Found): string {
  const distance = (one: Form): string => mean(scoresOf(found, one)!.first).toFixed(1);
  const [ours, floats] = [form("natural", "q-dit"), form("natural", "fp32")].map(distance);
  return `distance of pictures at W4A8 ${ours}; in full precision ${floats}`;
}

/** What the timings ran on, in words. */
export interface TimedOn {
  readonly threads: number;
  readonly kernels: { readonly exactSignedBytes: boolean; readonly roundsBlocks: boolean };
}

const timedText = ({ threads, kernels }: TimedOn): string =>
  [
    threads === 1 ? "1 thread" : `${threads} threads`,
    `integer products with ${kernels.exactSignedBytes ? "signed" : "unsigned"} weights`,
    `packed weights multiplied in ${kernels.roundsBlocks ? "integers" : "floats"}`,
  ].join(", ");

/** All tables by title. */
export function tablesOf(found: Found, drawing: DrawingSettings, timed: TimedOn): Record<string, Table> {
  const drawn = [...CORE.drawn, ...FURTHER.drawn, ...SEARCHED.map((one): [Form, View] => [one, {}])];
  const predicted = [...CORE.predicted, ...FURTHER.predicted];
  const of = (condition: Form["condition"]) => (one: Form) => one.condition === condition;
  const w4a8 = (one: Form): boolean => bitsText(one.bits) === "W4A8";
  const { pictures, steps } = drawing;
  const tables = comparisonsOf(found, drawing.seeds);
  for (const condition of ["natural", "stress"] as const) {
    const usual = drawn.filter(([one, view]) => of(condition)(one) && viewText(view) === "");
    tables[`Simulated pictures, ${condition} model: ${pictures} of each seed, ${steps} steps of DDIM`] =
      picturesTable(found, usual);
    const forms = predicted.filter(of(condition));
    tables[`Simulated predictions, ${condition} model: signal to noise in dB, mean of the steps`] =
      predictionsTable(found, forms);
    tables[`Simulated predictions at W4A8, ${condition} model, over thirds of the steps, dB`] = slicesTable(
      found,
      forms.filter(w4a8),
    );
  }
  tables["Simulated pictures with guidance, and in other numbers of steps"] = picturesTable(
    found,
    drawn.filter(([, view]) => viewText(view) !== ""),
  );
  tables["The searches"] = searchTable(found);
  tables["Packed models, real"] = packedTable(found);
  tables[`Time of a step of packed models, real: ${timedText(timed)}`] = timesTable(found);
  for (const [name, layers] of Object.entries(found.layers))
    tables[`Time of a ${name}, real: ${timedText(timed)}`] = layerTable(layers);
  return tables;
}
