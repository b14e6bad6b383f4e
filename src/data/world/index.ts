/** The scene world: rooms rendered exactly, and flat worlds of known factors. One seed is one scene. */
export * from "./canvas.ts";
export * from "./captions.ts";
export * from "./dataset.ts";
export * from "./dead-leaves.ts";
export * from "./figure.ts";
export * from "./lesions.ts";
export * from "./materials.ts";
export * from "./objects.ts";
export * from "./paths.ts";
export * from "./plain-shapes.ts";
export * from "./render.ts";
export * from "./scene.ts";
export * from "./shape-world.ts";
export * from "./shapes10.ts";
export * from "./sprites.ts";
