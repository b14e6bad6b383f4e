/** What is read from pictures to control others: edges, sketches, colours. */
export * from "./canny.ts";
export * from "./colour-histogram.ts";
