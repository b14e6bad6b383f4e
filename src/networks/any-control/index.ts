/** Networks of AnyControl: an encoder of any number of conditions, and the adapter that it steers. */
export * from "./configs.ts";
export * from "./global-adapter.ts";
export * from "./local-adapter.ts";
export * from "./multi-control-encoder.ts";
export * from "./word-pieces.ts";
