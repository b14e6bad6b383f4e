/** The study of DiffLoss: what is asked for, and the page that says what came of it. */
import { rmdir } from "node:fs/promises";
import { join } from "node:path";
import { DEGRADATION_NAMES, type DegradationName, listPictures } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { openFeatureNetwork, openLpips, RESTORATION_CONVENTIONS } from "../../metrics/index.ts";
import type { Restorer } from "../../networks/index.ts";
import {
  fileFingerprint,
  fingerprint,
  judged,
  type Made,
  mean,
  NOT_MADE,
  type Study,
  type Verdict,
  whereMade,
} from "../../study/index.ts";
import { restorerFile } from "../../training/index.ts";
import { told, type Work } from "../../work.ts";
import { namesAmong } from "../options.ts";
import { reproducing, type StudyPage } from "../reproduce.ts";
import { shippedFile } from "../shipped.ts";
import type { ActionContext } from "../system.ts";
import { ARM_NAMES, ARMS, type Arm, type ArmName, CORE } from "./arms.ts";
import { type ArmPlan, type Lab, openLab, type Plan } from "./lab.ts";
import { priorFile, priorPath, randomPrior, restorerPath } from "./model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { tablesOf } from "./page.ts";
import {
  type Found,
  GATE_RULES,
  OWN_RULES,
  type Recognition,
  type Row,
  type SetName,
  type SetScores,
  type TaskFound,
  taskRules,
} from "./rules.ts";

/** The networks that arms begin with. */
const STARTS: Readonly<Partial<Record<DegradationName, string>>> = { noise: "denoise", rain: "derain" };

const SETS: readonly SetName[] = ["our own pictures", "photographs"];
const PICTURES = 3000;
const RATE = 3e-4;
/** Rooms that the prior and the classifier are asked about. */
const ROOMS = 128;

/** Fingerprints of what everything begins with. */
export interface Subject {
  readonly prior: string;
  readonly classifier: string;
  readonly lpips: string | undefined;
  readonly start: Readonly<Record<string, string>>;
  /** Of the files of the photographs. */
  readonly photographs: string | undefined;
}

/** @throws ArgumentError for tasks without a network to begin with, and unknown arms */
export function planOf(options: ReproduceActionOptions): Plan {
  const tasks = namesAmong(options.tasks, DEGRADATION_NAMES, "task");
  const without = tasks.find((task) => STARTS[task] === undefined);
  if (without !== undefined)
    throw new ArgumentError(
      `reproduce: no network to begin with for ${without}; there are ${Object.keys(STARTS).join(", ")}`,
    );
  const { arms, steps, batch, crop, strength } = options;
  return {
    tasks,
    arms: arms === "core" ? CORE : arms === "all" ? ARM_NAMES : namesAmong(arms, ARM_NAMES, "arm"),
    seeds: Array.from({ length: options.seeds }, (_, i) => i),
    settings: { steps, batch, crop, strength, learningRate: RATE, pictures: PICTURES },
    test: options.test,
    sets: options.data === undefined ? SETS.slice(0, 1) : SETS,
    makes: options.measure,
  };
}

/** Lists of one length averaged element by element. */
const averaged = (lists: readonly (readonly number[])[]): number[] =>
  lists[0]!.map((_, i) => mean(lists.map((list) => list[i]!)));

/** The scores of several seeds as one. */
function overSeeds<T extends SetScores | Recognition>(found: readonly T[]): T | undefined {
  if (found.length === 0) return undefined;
  const names = Object.keys(found[0]!) as (keyof T)[];
  return Object.fromEntries(
    names.map((name) => [name, averaged(found.map((one) => one[name] as readonly number[]))]),
  ) as unknown as T;
}

/** Everything of one task. */
async function* measuredTask(
  study: Study,
  lab: Lab,
  subject: Subject,
  plan: Plan,
  task: DegradationName,
): Work<TaskFound> {
  const { arms, seeds, settings, test, sets, makes } = plan;
  const start = subject.start[task]!;
  const scores: Partial<Record<SetName, Partial<Record<Row, SetScores>>>> = {};
  const recognition: Partial<Record<Row, Recognition>> = {};
  const made: Partial<Record<ArmName, Made<Restorer>[]>> = {};

  const scoresOf = async function* (row: Row, nets: readonly (Made<Restorer> | undefined)[]): Work<void> {
    const netOf = (one: Made<Restorer> | undefined) =>
      one?.value ?? (row === "start" ? lab.start(task) : undefined);
    for (const set of sets) {
      const photographs = set === "photographs" && { photographs: subject.photographs };
      const found: SetScores[] = [];
      for (const one of nets) {
        const cell = study.measure<SetScores>(`${task}, ${row}, ${one ? `${one.name}, ` : ""}${set}`, {
          given: {
            task,
            row,
            set,
            ...(photographs || { test }),
            lpips: subject.lpips,
            ...(row === "start" && { start }),
          },
          from: one ? [one] : [],
          measure: () => {
            if (!makes) throw NOT_MADE;
            return lab.score(netOf(one), task, set, test);
          },
        });
        const scored = yield* whereMade(cell);
        if (scored) found.push(scored.value);
      }
      const all = found.length === nets.length ? overSeeds(found) : undefined;
      if (all) (scores[set] ??= {})[row] = all;
    }
    const seen: Recognition[] = [];
    for (const one of nets) {
      const cell = study.measure<Recognition>(`${task}, ${row}, ${one ? `${one.name}, ` : ""}recognition`, {
        given: { task, row, rooms: ROOMS, classifier: subject.classifier, ...(row === "start" && { start }) },
        from: one ? [one] : [],
        measure: () => (makes ? lab.recognise(netOf(one), task, ROOMS) : Promise.reject(NOT_MADE)),
      });
      const found = yield* whereMade(cell);
      if (found) seen.push(found.value);
    }
    const all = seen.length === nets.length ? overSeeds(seen) : undefined;
    if (all) recognition[row] = all;
  };

  yield* scoresOf("input", [undefined]);
  yield* scoresOf("start", [undefined]);
  for (const name of arms) {
    const arm: Arm = ARMS[name];
    const nets: Made<Restorer>[] = [];
    for (const seed of study.share(seeds)) {
      const given: ArmPlan = { ...settings, task, seed };
      const cell = study.model<Restorer>(`${task} ${name} seed ${seed}`, {
        given: { ...given, arm, start, prior: subject.prior, classifier: subject.classifier },
        make: async function* (folder) {
          if (!makes) {
            await rmdir(folder).catch(() => undefined); // a training that was stopped may have left something
            throw NOT_MADE;
          }
          return yield* told(lab.train(arm, given, folder), (event) =>
            event.type === "progress" ? { ...event, stage: `${task} ${name} seed ${seed}` } : event,
          );
        },
        ...restorerFile.cell,
      });
      const net = yield* whereMade(cell);
      if (net) nets.push(net);
    }
    if (nets.length < seeds.length) continue;
    made[name] = nets;
    yield* scoresOf(name, nets);
  }
  const [plain, detached] = [made.pixels, made.detached];
  let detachedGap: number | undefined;
  if (plain && detached) {
    const gaps = await Promise.all(plain.map((net, i) => lab.gap(net.value, detached[i]!.value)));
    detachedGap = Math.max(...gaps);
  }
  return { scores, recognition, stepTimes: {}, ...(detachedGap !== undefined && { detachedGap }) };
}

const startOf = async (task: DegradationName): Promise<Restorer> =>
  (await restorerFile.load(await restorerPath(STARTS[task]!))).model;

/** Asks for everything, what decides the claim first. */
export async function* measured(study: Study, lab: Lab, subject: Subject, plan: Plan): Work<Found> {
  const gate = yield* whereMade(
    study.measure("gate of the prior", {
      given: { prior: subject.prior, rooms: ROOMS },
      measure: () => (plan.makes ? lab.gate(ROOMS) : Promise.reject(NOT_MADE)),
    }),
  );
  const tasks: Record<string, TaskFound> = {};
  for (const task of plan.tasks) tasks[task] = yield* measuredTask(study, lab, subject, plan, task);
  return { gate: gate?.value, tasks };
}

/** Fingerprint of the photographs that are measured on. */
async function contentOf(data: string): Promise<string> {
  const files = (
    await Promise.all(["bsds500/image", "rain100h"].map((name) => listPictures(join(data, name))))
  ).flat();
  return fingerprint(await Promise.all(files.map(fileFingerprint)));
}

interface Asked {
  readonly found: Found;
  readonly plan: Plan;
}

async function* ask(study: Study, options: ReproduceActionOptions, { signal }: ActionContext): Work<Asked> {
  const { data, threads } = options;
  const plan = planOf(options);
  const classifierPath = await shippedFile("checkpoints/rooms-features.safetensors");
  const priorFilePath = await priorPath("mini");
  const weights = data === undefined ? undefined : join(data, "weights");
  const starts = await Promise.all(
    plan.tasks.map(async (task) => [task, await fileFingerprint(await restorerPath(STARTS[task]!))] as const),
  );
  const subject: Subject = {
    prior: await fileFingerprint(priorFilePath),
    classifier: await fileFingerprint(classifierPath),
    lpips: weights && (await fileFingerprint(join(weights, "lpips_v0.1", "squeeze.safetensors"))),
    start: Object.fromEntries(starts),
    photographs: data === undefined ? undefined : await contentOf(data),
  };
  const { model: prior } = await priorFile.load(priorFilePath);
  const lab = openLab({
    judges: {
      prior,
      untrained: randomPrior("mini", 1),
      classifier: (await openFeatureNetwork(classifierPath, "rooms-features")).network,
    },
    start: Object.fromEntries(await Promise.all(plan.tasks.map(async (task) => [task, await startOf(task)]))),
    lpips: weights === undefined ? undefined : await openLpips(weights),
    ...{ data, threads, signal },
  });
  return { found: yield* measured(study, lab, subject, plan), plan };
}

/** Every rule on everything it is about; what was not measured is printed as such. */
export const verdictsOf = ({ tasks, ...found }: Found): Verdict[] => [
  ...judged(GATE_RULES, "rooms", { ...found, tasks }),
  ...Object.entries(tasks).flatMap(([task, own]) => [
    ...SETS.flatMap((set) => judged(taskRules(set), `${task}, ${set}`, own)),
    ...judged(OWN_RULES, task, own),
  ]),
];

/** What was found, the unwelcome first. */
export function findingOf(verdicts: readonly Verdict[]): string {
  const failed = verdicts.filter(({ judged: found }) => found?.holds === false);
  if (failed.length === 0) return "";
  const named = [...new Set(failed.map(({ name, on }) => `${name} (${on})`))];
  return `Does not hold: ${named.join("; ")}.`;
}

function page({ found, plan }: Asked): StudyPage {
  const verdicts = verdictsOf(found);
  return {
    title: "DiffLoss in miniature, measured",
    finding: findingOf(verdicts),
    verdicts,
    tables: tablesOf(found, plan),
    data: { ...found, conventions: RESTORATION_CONVENTIONS },
  };
}

/** `tweedie reproduce diffloss`: trains and measures what is missing, and writes the page. */
export const reproduceAction = reproducing<ReproduceActionOptions, Asked>({
  ...{ system: "diffloss", version: 1, options: reproduceOptions, again: { measure: true } },
  ...{ ask, page },
});
