/** Trains in a process that the test kills at step 9. */
import { train } from "../../src/nn/index.ts";
import { makeTraining } from "./regression.ts";

for await (const event of train(makeTraining({ steps: 40, saveEvery: 4, directory: process.argv[2]! }))) {
  if (event.type !== "step") continue;
  console.log(`step ${event.step}`);
  // The kill comes here, however slow the machine is: an interval keeps the process alive until then.
  if (event.step === 9) await new Promise(() => setInterval(() => {}, 60_000));
}
