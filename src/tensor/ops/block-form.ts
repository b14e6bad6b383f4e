/**
 * How maps lie in the channel-blocked layout of ONNX Runtime's CPU kernels: [N, C / b, H, W, b], with b = 8 or 16 channels
 * innermost. Maps of half a block's channels lie with two neighbouring columns in one block, as [N, b, H, W / 2] with the
 * channels of even columns before those of odd ones. Other maps that do not fill their last block have zeros behind their
 * last channel, which every operation on them must keep.
 */
import type { GraphBuilder } from "../onnx/builder.ts";

const NCHWC = "com.microsoft.nchwc";

/** A node of the blocked kernels. */
export const kernel = (g: GraphBuilder, op: string, inputs: readonly string[], attributes = {}): string =>
  g.node(op, inputs, attributes, 1, NCHWC)[0]!;

/** True for nodes of the blocked kernels. */
export const isKernel = (node: { readonly domain: string } | undefined): boolean => node?.domain === NCHWC;

/** Columns of the plain map in one of the blocked one, and channels of that, in whole blocks. */
export interface BlockForm {
  readonly columns: 1 | 2;
  readonly lanes: number;
}

/** Channels in whole blocks. */
export function wholeBlocks(g: GraphBuilder, channels: number): number {
  const block = g.capabilities.channelBlock ?? 1;
  return Math.ceil(channels / block) * block;
}

/** How a map [N, C, H, W] is kept in blocks; undefined where more than a third of them would be zeros. */
export function blockForm(g: GraphBuilder, shape: readonly number[]): BlockForm | undefined {
  const [, channels, , width] = shape as [number, number, number, number];
  const lanes = wholeBlocks(g, channels);
  if (2 * channels === g.capabilities.channelBlock && width % 2 === 0) return { columns: 2, lanes };
  return 3 * lanes <= 4 * channels ? { columns: 1, lanes } : undefined;
}

/** The shape of a blocked map, by its plain one. */
export const blockedShape = (
  [n, , h, w]: readonly number[],
  { columns, lanes }: BlockForm,
): [number, number, number, number] => [n!, lanes, h!, w! / columns];

/** The channel of each lane, or -1 where there is none. */
export const laneChannels = ({ columns, lanes }: BlockForm, channels: number): number[] =>
  Array.from({ length: lanes }, (_, lane) => (lane < columns * channels ? lane % channels : -1));

/** Values of channels [N, C] as values of lanes [N, lanes], with zeros where there is no channel. */
export function laneValues(
  g: GraphBuilder,
  values: string,
  [n, channels]: readonly [number, number],
  { columns, lanes }: BlockForm,
): string {
  const all = columns === 1 ? values : g.op("Concat", [values, values], { axis: 1 });
  const more = lanes - columns * channels;
  return more === 0 || n === 0 ? all : g.op("Pad", [all, g.ints([0, 0, 0, more])]);
}

/** A blocked map in plain layout [N, C, H, W]. */
export function plainForm(
  g: GraphBuilder,
  blocked: string,
  shape: readonly number[],
  { columns }: BlockForm,
): string {
  const [n, c, h, w] = shape as [number, number, number, number];
  const plain = kernel(g, "ReorderOutput", [blocked], { channels: columns * c, channels_last: 0 });
  if (columns === 1) return plain;
  return g.reshape(g.transpose(g.reshape(plain, [n, 2, c, h, w / 2]), [0, 2, 3, 4, 1]), shape);
}

/** A blocked map as the result of a lowering: a plain one of this shape that remembers its blocked form. */
export function unblocked(g: GraphBuilder, blocked: string, shape: readonly number[]): string {
  const plain = plainForm(g, blocked, shape, blockForm(g, shape)!);
  g.blocked.set(plain, blocked);
  return plain;
}

/** The blocked form of a map, if it is there with one column in each. */
export const blockedMap = (g: GraphBuilder, x: string, shape: readonly number[]): string | undefined =>
  blockForm(g, shape)?.columns === 1 ? g.blocked.get(x) : undefined;
