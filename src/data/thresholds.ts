/** Thresholds that part the values of a picture into dark and bright: what any method of segmentation has to beat. */
const extent = (values: Float32Array): [low: number, high: number] => {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of values) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  return [low, high];
};

/** Levels of the histogram. */
const BINS = 256;

/** The threshold that parts values best: the greatest variance between both sides (Otsu 1979). */
export function otsuThreshold(values: Float32Array): number {
  const [low, high] = extent(values);
  if (!(high > low)) return high;
  const counts = new Float64Array(BINS);
  const bin = (v: number): number => Math.min(BINS - 1, Math.floor(((v - low) / (high - low)) * BINS));
  for (const v of values) counts[bin(v)]!++;
  const total = counts.reduce((sum, n, k) => sum + n * k, 0);
  let [best, at, below, sum] = [-1, 0, 0, 0];
  for (let k = 0; k < BINS - 1; k++) {
    below += counts[k]!;
    sum += counts[k]! * k;
    const above = values.length - below;
    if (below === 0 || above === 0) continue;
    const between = below * above * (sum / below - (total - sum) / above) ** 2;
    if (between > best) [best, at] = [between, k];
  }
  return low + ((at + 1) / BINS) * (high - low);
}

/** Iterations, and the share of the range below which a change ends them. */
const [LI_STEPS, LI_CHANGE] = [200, 1e-4];

/** The threshold of least cross entropy between values and the means of both sides (Li and Tam 1998). */
export function liThreshold(values: Float32Array): number {
  const [low, high] = extent(values);
  if (!(high > low)) return high;
  let threshold = values.reduce((sum, v) => sum + (v - low), 0) / values.length;
  for (let step = 0; step < LI_STEPS; step++) {
    let [below, under, above] = [0, 0, 0];
    for (const v of values) {
      if (v - low > threshold) above += v - low;
      else {
        below += v - low;
        under++;
      }
    }
    const [dark, bright] = [below / under, above / (values.length - under)];
    if (!(dark > 0 && bright > dark)) break;
    const next = (dark - bright) / (Math.log(dark) - Math.log(bright));
    const change = Math.abs(next - threshold);
    threshold = next;
    if (change < LI_CHANGE * (high - low)) break;
  }
  return low + threshold;
}
