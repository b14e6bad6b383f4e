/** Pictures for people: grids, overlays, heat maps, charts, and reports that hold them. */
export * from "./albums.ts";
export * from "./chart.ts";
export * from "./html.ts";
export * from "./pixels.ts";
export * from "./run-report.ts";
