/** `tweedie doctor`: what is found, and whether it works. */

import { lesion } from "../../data/world/lesions.ts";
import { dice, overlapCounts } from "../../metrics/index.ts";
import { openModel } from "../../systems/sdseg/actions.ts";
import { toInput } from "../../systems/sdseg/data.ts";
import { openSegmenter } from "../../systems/sdseg/use.ts";
import {
  type Device,
  deviceCapabilities,
  formatBytes,
  sessionThreads,
  setDefaultDevice,
} from "../../tensor/index.ts";
import { EXIT, Unsuccessful } from "../errors.ts";
import { parseArguments } from "../positionals.ts";
import { styled } from "../terminal.ts";
import { deviceReports } from "./devices.ts";
import { machine, peers, shippedCheckpoints, shortName, TESTED } from "./machine.ts";
import { DOCTOR_OPTIONS } from "./options.ts";
import { CHECKS, type Check, PROCESSOR_CHECKS, runChecks } from "./self-test.ts";

/** Numbers that no lesion of the training has. */
const UNSEEN = [3_000_000, 3_000_001, 3_000_002, 3_000_003];

/** Far below what the model has on its test pictures, far above what one without its weights has. */
const LEAST_DICE = 0.7;

const systemCheck: Check = {
  name: "a model that ships segments pictures it has not seen",
  async run() {
    const { model } = await openModel("lesions");
    const segmenter = openSegmenter(model);
    let sum = 0;
    try {
      for (const index of UNSEEN) {
        const { image, labels } = lesion(index);
        const { mask } = await segmenter.segment(toInput(image, model.config));
        sum += dice(overlapCounts(mask, labels, 2)[1]!);
      }
    } finally {
      await segmenter.close();
    }
    const found = `Dice ${(sum / UNSEEN.length).toFixed(3)}`;
    if (!(sum / UNSEEN.length > LEAST_DICE)) throw new Error(`${found}, expected more than ${LEAST_DICE}`);
    return found;
  },
};

/** One finding: a line for people, the same in JSON. */
interface Line {
  readonly text: string;
  readonly json: Readonly<Record<string, unknown>>;
  readonly failed?: boolean;
}

const WIDTH = 14;
const row = (label: string, text: string): string => `${label.padEnd(WIDTH)}${text}`;
const mark = (good: boolean, word = good ? "pass" : "FAIL"): string =>
  styled(word.padEnd(WIDTH), good ? "green" : "red");

const testedText = Object.entries(TESTED)
  .map(([name, majors]) => `${name} ${majors.join(", ")}`)
  .join("; ");

/** How many threads sessions get, and what was tried. */
async function threadsFound(): Promise<Line> {
  const { threads, usable, milliseconds } = await sessionThreads();
  const tried = [...milliseconds].map(([count, ms]) => `${count}: ${ms.toFixed(2)} ms`).join(", ");
  const why = tried ? `one matrix product by threads ${tried}` : `${usable} usable`;
  return {
    text: row("threads", `${threads} per session (${why})`),
    json: { type: "threads", threads, usable, milliseconds: Object.fromEntries(milliseconds) },
  };
}

/** Which kernels this processor gets. */
async function kernelsFound(): Promise<Line> {
  const { channelBlock, exactSignedBytes = false, roundsBlocks = false } = await deviceCapabilities("cpu");
  const convolutions = channelBlock
    ? `convolutions in blocks of ${channelBlock} channels`
    : "convolutions in plain layout";
  const integers = `integer products with ${exactSignedBytes ? "signed" : "unsigned"} weights`;
  const packed = `packed weights multiplied in ${roundsBlocks ? "integers" : "floats"}`;
  return {
    text: row("kernels", [convolutions, integers, packed].join(", ")),
    json: { type: "kernels", channelBlock: channelBlock ?? null, exactSignedBytes, roundsBlocks },
  };
}

async function* findings(): AsyncGenerator<Line> {
  const { versions, ...rest } = machine();
  const { runtime, processor, processors, memoryBytes, freeBytes } = rest;
  yield {
    text: [
      row("tweedie", versions.tweedie),
      row(
        runtime.name,
        `${runtime.version}, ${runtime.tested ? "tested" : `not tested; tested are ${testedText}`}`,
      ),
      row("onnxruntime", versions.onnxruntime),
      row("system", versions.system),
      row("processor", `${processor}; ${processors} usable here`),
      row("memory", `${formatBytes(memoryBytes)}, ${formatBytes(freeBytes)} of it free`),
    ].join("\n"),
    json: { type: "machine", versions, ...rest },
  };
  yield await threadsFound();
  yield await kernelsFound();
  for (const { name, about, version } of peers())
    yield {
      text: row("optional", `${name} ${version ?? "not installed"}: ${about}`),
      json: { type: "peer", name, version: version ?? null },
    };
  for await (const device of deviceReports())
    yield {
      text: row(
        "device",
        `${device.name}: ${device.works ? device.detail : `does not work here (${device.detail})`}`,
      ),
      json: { type: "device", ...device },
    };
  const shipped = await shippedCheckpoints();
  const intact = shipped.filter((c) => c.intact);
  yield {
    text: row(
      "checkpoints",
      `${intact.length} intact: ${intact.map(({ file }) => shortName(file)).join(", ")}`,
    ),
    json: { type: "checkpoints", checkpoints: shipped },
    failed: intact.length < shipped.length,
  };
  for (const { file, problem } of shipped.filter((c) => !c.intact))
    yield { text: `${mark(false)}${file}: ${problem}`, json: { type: "problem", file, problem } };
}

async function* checks(list: readonly Check[]): AsyncGenerator<Line> {
  for await (const result of runChecks(list)) {
    const { name, passed, seconds, detail } = result;
    yield {
      text: `${mark(passed)}${name} ${styled(`(${detail}; ${seconds.toFixed(2)} s)`, passed ? "dim" : "red")}`,
      json: { type: "check", ...result },
      failed: !passed,
    };
  }
}

async function* all(device: string | undefined): AsyncGenerator<Line> {
  if (device === undefined) yield* findings();
  else await setDefaultDevice(device as Device);
  yield* checks(device === undefined ? [...CHECKS, ...PROCESSOR_CHECKS, systemCheck] : CHECKS);
}

/** Runs `tweedie doctor`. Exit code 1 when something does not work that should. */
export async function doctor(args: readonly string[]): Promise<void> {
  const { text, flag } = parseArguments(args, DOCTOR_OPTIONS);
  let failures = 0;
  for await (const line of all(text("device"))) {
    if (line.failed) failures++;
    console.log(flag("json") ? JSON.stringify(line.json) : line.text);
  }
  if (flag("json")) console.log(JSON.stringify({ type: "result", passed: failures === 0, failures }));
  else if (failures === 0) console.log(styled("everything works", "green"));
  else console.log(styled(`${failures} thing${failures === 1 ? " does" : "s do"} not work`, "red"));
  if (failures > 0) throw new Unsuccessful(EXIT.defect);
}
