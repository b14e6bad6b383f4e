/** The study of Noise-DA: what is asked for, and the page that says what came of it. */
import { rmdir } from "node:fs/promises";
import { join } from "node:path";
import { listPictures } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { openLpips, RESTORATION_CONVENTIONS } from "../../metrics/index.ts";
import type { Restorer } from "../../networks/index.ts";
import {
  fileFingerprint,
  fingerprint,
  type Made,
  mean,
  NOT_MADE,
  type Study,
  whereMade,
} from "../../study/index.ts";
import { restorerFile } from "../../training/index.ts";
import { told, type Work } from "../../work.ts";
import { namesAmong } from "../options.ts";
import { reproducing, type StudyPage } from "../reproduce.ts";
import type { ActionContext } from "../system.ts";
import { ARM_NAMES, ARMS, type Arm, type ArmName, CORE } from "./arms.ts";
import { DOMAIN_NAMES, DOMAINS, type DomainName } from "./domains.ts";
import { type ArmPlan, type Lab, openLab, type Plan, type SetScores } from "./lab.ts";
import { type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { tablesOf } from "./page.ts";
import { type Asked, type DomainFound, type Found, findingOf, type Row, verdictsOf } from "./rules.ts";
import { type SetName, TRANSFER, WORLDS, type World } from "./worlds.ts";

const RATE = 1e-3;
/** Labelled pictures that weights are chosen on, and as many synthetic ones. */
const VALIDATION = 64;

/** Fingerprints of what is not made here. */
export interface Subject {
  readonly lpips: string | undefined;
  /** Of the photographs that are learned from and judged on, and of those with real damage. */
  readonly photographs: string | undefined;
  readonly damaged: string | undefined;
}

/** Arms that say whether there is a gap to close. */
const GAP: readonly ArmName[] = ["vanilla", "oracle"];

/** @throws ArgumentError for unknown names, and photographs without a folder */
export function planOf(options: ReproduceActionOptions): Plan {
  const { arms, steps, batch, crop, pictures, diffusion, data } = options;
  const worlds = namesAmong(options.worlds, WORLDS, "world");
  if (worlds.includes("photographs") && data === undefined)
    throw new ArgumentError("reproduce: the world photographs needs --data, a folder with bsds500");
  const sets: Readonly<Record<string, readonly ArmName[]>> = { core: CORE, all: ARM_NAMES, gap: GAP };
  return {
    worlds,
    domains: namesAmong(options.domains, DOMAIN_NAMES, "domain"),
    arms: sets[arms] ?? namesAmong(arms, ARM_NAMES, "arm"),
    seeds: Array.from({ length: options.seeds }, (_, i) => i),
    startSteps: options.startSteps,
    settings: { steps, batch, crop, learningRate: RATE, pictures, diffusion },
    test: options.test,
    makes: options.measure,
  };
}

/** Scores of several seeds as one: pictures' means. */
function overSeeds(found: readonly SetScores[]): SetScores {
  const names = Object.keys(found[0]!) as (keyof SetScores)[];
  const averaged = (name: keyof SetScores): number[] =>
    found[0]![name]!.map((_, i) => mean(found.map((one) => one[name]![i]!)));
  return Object.fromEntries(names.map((name) => [name, averaged(name)])) as unknown as SetScores;
}

/** Everything of one domain in one world. */
async function* measuredDomain(
  study: Study,
  lab: Lab,
  subject: Subject,
  plan: Plan,
  world: World,
  domain: DomainName,
): Work<DomainFound> {
  const { arms, seeds, settings, startSteps, test, makes } = plan;
  const title = `${world} ${domain}`;
  const domainGiven = {
    ...{ world, domain, synthetic: DOMAINS[domain].synthetic.about, real: DOMAINS[domain].real.about },
    ...(world === "photographs" && { photographs: subject.photographs }),
  };
  const sets: Partial<Record<SetName, Partial<Record<Row, SetScores>>>> = {};
  const transfer: Partial<Record<Row, SetScores>> = {};

  /** A model that is trained unless nothing is made. */
  const model = (
    name: string,
    given: object,
    from: readonly Made<Restorer>[],
    make: (folder: string) => Work<Restorer>,
  ) =>
    whereMade(
      study.model<Restorer>(name, {
        given,
        from,
        make: async function* (folder) {
          if (!makes) {
            await rmdir(folder).catch(() => undefined); // a training that was stopped may have left something
            throw NOT_MADE;
          }
          return yield* told(make(folder), (event) =>
            event.type === "progress" ? { ...event, stage: name } : event,
          );
        },
        ...restorerFile.cell,
      }),
    );

  /** Scores of a row, over its networks; what is missing of one seed leaves the row out. */
  const scores = async function* (
    row: Row,
    name: string,
    nets: readonly (Made<Restorer> | undefined)[],
    given: object,
    measure: (net: Restorer | undefined) => Work<SetScores>,
  ): Work<SetScores | undefined> {
    const found: SetScores[] = [];
    for (const one of nets) {
      const cell = study.measure<SetScores>(`${one?.name ?? `${title} ${row}`} ${name}`, {
        given: { ...domainGiven, ...given, lpips: subject.lpips },
        from: one ? [one] : [],
        measure: () => {
          if (!makes) throw NOT_MADE;
          return measure(one?.value);
        },
      });
      const made = yield* whereMade(cell);
      if (made) found.push(made.value);
    }
    return found.length === nets.length && found.length > 0 ? overSeeds(found) : undefined;
  };
  const counts = { test, validation: VALIDATION, synthetic: VALIDATION } as const;
  const allScores = async function* (row: Row, nets: readonly (Made<Restorer> | undefined)[]): Work<void> {
    for (const [set, count] of Object.entries(counts) as [SetName, number][]) {
      const found = yield* scores(row, set, nets, { set, count }, (net) =>
        lab.score(net, world, domain, set, count),
      );
      if (found) (sets[set] ??= {})[row] = found;
    }
    if (subject.damaged === undefined || TRANSFER[domain] === undefined) return;
    const found = yield* scores(row, "photographs", nets, { damaged: subject.damaged }, (net) =>
      lab.transfer(net, domain),
    );
    if (found) transfer[row] = found;
  };

  const starts = new Map<number, Made<Restorer>>();
  for (const seed of study.share(seeds)) {
    const given: ArmPlan = { ...settings, steps: startSteps, world, domain, seed };
    const made = yield* model(
      `${title} start seed ${seed}`,
      { ...domainGiven, ...given, diffusion: "" },
      [],
      (folder) => lab.start(given, folder),
    );
    if (made) starts.set(seed, made);
  }
  yield* allScores("input", [undefined]);
  if (starts.size === seeds.length) yield* allScores("start", [...starts.values()]);
  for (const name of arms) {
    const arm: Arm = ARMS[name];
    const nets: Made<Restorer>[] = [];
    for (const [seed, start] of starts) {
      const given: ArmPlan = { ...settings, world, domain, seed };
      const seen = { ...given, ...(arm.kind !== "noise-da" && { diffusion: "" }) };
      const made = yield* model(
        `${title} ${name} seed ${seed}`,
        { ...domainGiven, ...seen, arm },
        [start],
        (folder) => lab.train(arm, given, start.value, folder),
      );
      if (made) nets.push(made);
    }
    if (nets.length === seeds.length) yield* allScores(name, nets);
  }
  return { sets, transfer };
}

/** Asks for everything, what decides the claim first. */
export async function* measured(study: Study, lab: Lab, subject: Subject, plan: Plan): Work<Found> {
  const found: Record<string, DomainFound> = {};
  for (const world of plan.worlds)
    for (const domain of plan.domains)
      found[`${domain}, ${world === "own" ? "our own pictures" : world}`] = yield* measuredDomain(
        study,
        lab,
        subject,
        plan,
        world,
        domain,
      );
  return found;
}

/** Fingerprint of all pictures of some folders. */
async function contentOf(data: string, folders: readonly string[]): Promise<string> {
  const files = (await Promise.all(folders.map((name) => listPictures(join(data, name))))).flat();
  return fingerprint(await Promise.all(files.map(fileFingerprint)));
}

async function* ask(study: Study, options: ReproduceActionOptions, { signal }: ActionContext): Work<Asked> {
  const { data, threads } = options;
  const plan = planOf(options);
  const weights = data === undefined ? undefined : join(data, "weights");
  const subject: Subject = {
    lpips: weights && (await fileFingerprint(join(weights, "lpips_v0.1", "squeeze.safetensors"))),
    photographs: data === undefined ? undefined : await contentOf(data, ["bsds500/image"]),
    damaged: data === undefined ? undefined : await contentOf(data, ["real-noise", "rain100h", "blur"]),
  };
  const lpips = weights === undefined ? undefined : await openLpips(weights);
  const lab = openLab({ lpips, data, threads, signal });
  return { found: yield* measured(study, lab, subject, plan), plan };
}

function page({ found, plan }: Asked): StudyPage {
  const verdicts = verdictsOf(found);
  return {
    title: "Noise-DA in miniature, measured",
    finding: findingOf(found, verdicts),
    verdicts,
    tables: tablesOf(found, plan),
    data: { found, conventions: RESTORATION_CONVENTIONS },
  };
}

/** `tweedie reproduce noise-da`: trains and measures what is missing, and writes the page. */
export const reproduceAction = reproducing<ReproduceActionOptions, Asked>({
  ...{ system: "noise-da", version: 1, options: reproduceOptions, again: { measure: true } },
  ...{ ask, page },
});
