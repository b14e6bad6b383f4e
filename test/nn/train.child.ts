/** Trains in a process that the test kills. */
import { train } from "../../src/nn/index.ts";
import { makeTraining } from "./regression.ts";

for await (const event of train(makeTraining({ steps: 40, saveEvery: 4, directory: process.argv[2]! }))) {
  if (event.type !== "step") continue;
  console.log(`step ${event.step}`);
  await new Promise((resolve) => setTimeout(resolve, 20)); // slow enough to be killed on the way
}
