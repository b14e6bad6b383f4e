/** The tour, `npm start`: what every system shows on inputs of our own generators, measured against their truth. */
export * from "./page.ts";
export * from "./run.ts";
export * from "./summary.ts";
export * from "./text.ts";
export * from "./write.ts";
