/** Data: readers of the files people have, datasets, augmentation, loading. */
export * from "./augment/index.ts";
export * from "./dataset.ts";
export * from "./files.ts";
export * from "./folders.ts";
export * from "./formats/cameras.ts";
export * from "./formats/cifar.ts";
export * from "./formats/idx.ts";
export * from "./formats/npy.ts";
export * from "./formats/tables.ts";
export * from "./formats/volumes.ts";
export * from "./formats/zip.ts";
export * from "./loader.ts";
export * from "./random-draws.ts";
export * from "./tensors.ts";
export * from "./workers.ts";
export * from "./world/index.ts";
