/** How good samples are: distances in the features of a small supervised classifier, and whether it sees the label. */

import { gather, type Labelled, type LabelledPictures } from "../data/picture-set.ts";
import { fillPermutation, fromHost, type Seed } from "../tensor/index.ts";
import {
  type ExtractedFeatures,
  extractFeatures,
  type FeatureNetwork,
  labelAgreement,
  trainFeatureNetwork,
} from "./feature-network.ts";
import { frechetFeatureDistance } from "./frechet.ts";
import { inceptionScore } from "./inception-score.ts";
import { SampleTable } from "./sample-table.ts";

/** The classifier whose features measure, trained on labelled pictures: also the ceiling of a probe. */
export async function trainClassifier(
  pictures: Labelled,
  { steps, seed, threads }: { steps: number; seed: Seed; threads?: number },
): Promise<FeatureNetwork> {
  const { count, size, channels, labels, classes } = pictures;
  const batch = Math.min(128, count);
  const order = new Int32Array(count);
  const perEpoch = Math.floor(count / batch);
  let known = -1;
  const run = trainFeatureNetwork({
    config: { size, channels, classes: classes.length },
    steps,
    seed: Number(seed),
    ...(threads && { threads }),
    batch: (step) => {
      const epoch = Math.floor(step / perEpoch);
      if (epoch !== known) fillPermutation(order, { seed, sample: 0, purpose: "classifier", step: epoch });
      known = epoch;
      const at = (step % perEpoch) * batch;
      const chosen = order.subarray(at, at + batch);
      return {
        x: fromHost("f32", [batch, channels, size, size], gather(pictures, chosen)),
        labels: fromHost(
          "i32",
          [batch],
          Int32Array.from(chosen, (i) => labels[i]!),
        ),
      };
    },
  });
  let model: FeatureNetwork | undefined;
  for await (const event of run) if (event.type === "done") model = event.state.model;
  return model!;
}

/** How good drawn pictures are. */
export interface Quality {
  /** Fréchet distance to the pictures: comparable only among networks measured alike. */
  readonly fid: number;
  /** Inception score of the classifier. */
  readonly is: number;
  /** Share of samples that the classifier sees as their label; absent without labels. */
  readonly agreement?: number;
}

/** Real pictures as the classifier sees them, to be compared with many sets of samples. */
export const referenceOf = (
  classifier: FeatureNetwork,
  pictures: LabelledPictures,
): Promise<ExtractedFeatures> => extractFeatures(classifier, pictures.values);

/** Quality of samples against a reference of as many pictures as there are. */
export async function qualityOf(
  classifier: FeatureNetwork,
  reference: ExtractedFeatures,
  samples: LabelledPictures,
): Promise<Quality> {
  const found = await extractFeatures(classifier, samples.values);
  const probabilities = new SampleTable(found.classes).addAll(0, found.probabilities);
  return {
    fid: frechetFeatureDistance(reference.features, found.features),
    is: inceptionScore(probabilities, 1).mean,
    ...(samples.labels && { agreement: labelAgreement(found, samples.labels) }),
  };
}
