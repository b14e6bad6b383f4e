/** Blocks that several networks share. */
export * from "./resnet.ts";
export * from "./samplers.ts";
