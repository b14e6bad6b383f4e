/** Small options of `reproduce umd`. */
export const BASE = {
  train: 1500,
  test: 100,
  size: 8,
  preset: "smoke",
  seeds: 2,
  steps: 20,
  tuneSteps: 10,
  batch: 8,
  samples: 50,
  sampleSteps: 5,
  guidances: "1,2",
  classifierSteps: 3,
  equal: "images",
} as const;
