/** CompVis' names of Stable Diffusion 1.x, written from its architecture and not from the rules under test. */

const both = (...names: string[]): string[] => names.flatMap((name) => [`${name}.weight`, `${name}.bias`]);
const below = (prefix: string, names: readonly string[]): string[] =>
  names.map((name) => `${prefix}.${name}`);

const resBlock = (skip: boolean): string[] =>
  both(
    ...["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"],
    ...(skip ? ["skip_connection"] : []),
  );

function spatialTransformer(): string[] {
  const attention = (name: string): string[] => [
    ...["to_q", "to_k", "to_v"].map((part) => `${name}.${part}.weight`),
    ...both(`${name}.to_out.0`),
  ];
  const inner = [...attention("attn1"), ...attention("attn2")];
  inner.push(...both("ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3"));
  return [...both("norm", "proj_in", "proj_out"), ...below("transformer_blocks.0", inner)];
}

/** 686 names below `model.diffusion_model`. */
export function compVisUNet(): string[] {
  const names = both("time_embed.0", "time_embed.2", "input_blocks.0.0");
  const widths = [320, 640, 1280, 1280];
  let n = 1;
  let width = 320;
  for (const [level, next] of widths.entries()) {
    for (let j = 0; j < 2; j++, n++) {
      names.push(...below(`input_blocks.${n}.0`, resBlock(width !== next)));
      if (level < 3) names.push(...below(`input_blocks.${n}.1`, spatialTransformer()));
      width = next;
    }
    if (level < 3) names.push(...both(`input_blocks.${n++}.0.op`));
  }
  names.push(...below("middle_block.0", resBlock(false)), ...below("middle_block.1", spatialTransformer()));
  names.push(...below("middle_block.2", resBlock(false)));
  n = 0;
  for (const level of [3, 2, 1, 0]) {
    for (let j = 0; j < 3; j++, n++) {
      names.push(...below(`output_blocks.${n}.0`, resBlock(true)));
      if (level < 3) names.push(...below(`output_blocks.${n}.1`, spatialTransformer()));
      if (level > 0 && j === 2) names.push(...both(`output_blocks.${n}.${level < 3 ? 2 : 1}.conv`));
    }
  }
  return [...names, ...both("out.0", "out.2")];
}

/** 248 names below `first_stage_model`. */
export function compVisVae(): string[] {
  const block = (shortcut: boolean): string[] =>
    both("norm1", "conv1", "norm2", "conv2", ...(shortcut ? ["nin_shortcut"] : []));
  const middle = (half: string): string[] => [
    ...below(`${half}.mid.block_1`, block(false)),
    ...below(`${half}.mid.attn_1`, both("norm", "q", "k", "v", "proj_out")),
    ...below(`${half}.mid.block_2`, block(false)),
    ...both(`${half}.conv_in`, `${half}.norm_out`, `${half}.conv_out`),
  ];
  const names = [...middle("encoder"), ...middle("decoder"), ...both("quant_conv", "post_quant_conv")];
  for (let level = 0; level < 4; level++) {
    for (let j = 0; j < 2; j++)
      names.push(
        ...below(`encoder.down.${level}.block.${j}`, block(j === 0 && (level === 1 || level === 2))),
      );
    for (let j = 0; j < 3; j++)
      names.push(...below(`decoder.up.${level}.block.${j}`, block(j === 0 && level < 2)));
    if (level < 3) names.push(...both(`encoder.down.${level}.downsample.conv`));
    if (level > 0) names.push(...both(`decoder.up.${level}.upsample.conv`));
  }
  return names;
}
