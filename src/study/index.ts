/** Studies: results that are made once, rules fixed beforehand, comparisons, and the page that says it all. */
export * from "./comparison.ts";
export { fileFingerprint, fingerprint } from "./fingerprint.ts";
export * from "./publish.ts";
export type { Machine, Provenance } from "./record.ts";
export * from "./rules.ts";
export * from "./shard.ts";
export * from "./statistics.ts";
export * from "./study.ts";
export * from "./tables.ts";
export * from "./timing.ts";
export * from "./where-made.ts";
