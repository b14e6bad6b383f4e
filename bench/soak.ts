/**
 * `npm run bench -- soak [--minutes N]`: sixteen clients call one compiled network with 120 shapes for ten minutes, more
 * shapes at once than it keeps compiled, and every answer is compared, byte for byte, with that of a call made alone.
 * Fails when one is different, or an error. Prints what memory does.
 */
import { createHash } from "node:crypto";
import { unet2D } from "../src/networks/index.ts";
import { createRng } from "../src/nn/index.ts";
import { fillNormal, jit, type Tensor, tensor } from "../src/tensor/index.ts";

const CLIENTS = 16;
const HEIGHTS = [8, 12, 16, 20, 24, 28, 32, 36, 40, 44];
const WIDTHS = [8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52];
const SHAPES = HEIGHTS.flatMap((h) => WIDTHS.map((w) => [1, 3, h, w] as const));
/** Seconds between two lines. */
const REPORT_EVERY = 30;

const picture = (index: number): Tensor => {
  const shape = SHAPES[index]!;
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(fillNormal(new Float32Array(size), { seed: 1, sample: index }), { shape });
};

async function digest(t: Tensor): Promise<string> {
  const { buffer, byteOffset, byteLength } = await t.data();
  return createHash("sha256")
    .update(new Uint8Array(buffer, byteOffset, byteLength))
    .digest("hex");
}

const megabytes = (): string => `${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`;

/** Runs for so many minutes; whether all answers were right. */
export async function soak(minutes: number): Promise<boolean> {
  const net = unet2D(
    {
      in_channels: 3,
      out_channels: 3,
      down_block_types: ["DownBlock2D", "AttnDownBlock2D"],
      up_block_types: ["AttnUpBlock2D", "UpBlock2D"],
      block_out_channels: [8, 16],
      layers_per_block: 1,
      attention_head_dim: 4,
      norm_num_groups: 4,
    },
    createRng(0),
  );
  const answer = (x: Tensor, t: Tensor): Tensor => net.call(x, t);
  const t = tensor([10]);

  const alone: string[] = [];
  for (const index of SHAPES.keys()) {
    const f = jit(answer);
    alone.push(await digest(await f(picture(index), t)));
    await f.close();
  }
  console.log(`${SHAPES.length} answers made alone, ${megabytes()}`);

  const shared = jit(answer);
  const end = performance.now() + minutes * 60_000;
  let [calls, different, failed] = [0, 0, 0];
  let lastSaid = performance.now();
  const client = async (own: number): Promise<void> => {
    for (let turn = 0; performance.now() < end; turn++) {
      const index = (own * 37 + turn * (2 * own + 1)) % SHAPES.length; // every client has an order of its own
      try {
        if ((await digest(await shared(picture(index), t))) !== alone[index]) different++;
      } catch (error) {
        failed++;
        console.error(`client ${own}, shape [${SHAPES[index]}]: ${error}`);
      }
      calls++;
      if (performance.now() - lastSaid < REPORT_EVERY * 1000) continue;
      lastSaid = performance.now();
      console.log(`${calls} calls, ${different} different, ${failed} failed, ${megabytes()}`);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(i)));
  console.log(
    `${calls} calls of ${CLIENTS} clients, ${shared.signatures} compilations: ${different} different, ${failed} failed; ${megabytes()}`,
  );
  await shared.close();
  return different + failed === 0;
}
