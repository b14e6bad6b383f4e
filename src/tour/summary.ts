/** `summary.json`: what the tour did and measured, for programs. */
import { z } from "zod";

const finite = z.number();
const seconds = finite.min(0);

const quality = z.strictObject({
  name: z.string(),
  value: finite,
  unit: z.string().optional(),
  better: z.enum(["higher", "lower"]),
  baseline: z.strictObject({ name: z.string(), value: finite }).optional(),
});

const common = { name: z.string(), title: z.string(), about: z.string(), seconds, next: z.array(z.string()) };

const system = z.discriminatedUnion("status", [
  z.strictObject({
    ...common,
    status: z.literal("done"),
    did: z.string(),
    quality: z.array(quality),
    warnings: z.array(z.string()),
    /** Pictures and charts, by name in the folder of the summary. */
    files: z.array(z.string()),
  }),
  z.strictObject({ ...common, status: z.literal("failed"), error: z.string() }),
  z.strictObject({ ...common, status: z.literal("skipped"), missing: z.array(z.string()) }),
]);

/** The whole file. */
export const tourSummary = z.strictObject({
  /** Of this layout. */
  version: z.literal(1),
  tweedie: z.string(),
  date: z.iso.datetime(),
  node: z.string(),
  platform: z.string(),
  processor: z.string(),
  cores: z.int().min(1),
  /** Of the networks. */
  threads: z.int().min(1),
  seed: z.int().min(0),
  seconds,
  peakMemoryBytes: z.int().min(0),
  systems: z.array(system),
});

export type TourSummary = z.output<typeof tourSummary>;
export type SystemRow = TourSummary["systems"][number];
