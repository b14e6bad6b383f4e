/** Adapters as tensors by name, in the spellings of diffusers and of kohya. */
import { type Tensor, tensor } from "../../tensor/index.ts";
import { COMPONENTS, type LoraComponent, PREFIXES } from "./names.ts";
import type { LoraAdapters } from "./read.ts";

/** `diffusers` is also what PEFT reads; `kohya` is what most other tools read. */
export type LoraFormat = "diffusers" | "kohya";

function kohyaPrefix(component: LoraComponent, adapters: LoraAdapters): string {
  const [first, second] = PREFIXES[component].kohya;
  // With two text encoders, as in SDXL, the first has a number as well.
  return component === "textEncoder" && adapters.textEncoder2 ? second! : first!;
}

/**
 * Tensors of a file. That of kohya has alpha beside the matrices; diffusers takes alpha for the rank, so there the
 * factor goes into the matrix `lora_B`.
 */
export function writeLora(adapters: LoraAdapters, format: LoraFormat): Map<string, Tensor> {
  const out = new Map<string, Tensor>();
  for (const component of COMPONENTS) {
    for (const [key, { down, up, alpha }] of adapters[component] ?? []) {
      const scale = alpha / down.shape[0]!;
      if (format === "kohya") {
        const name = kohyaPrefix(component, adapters) + key.replaceAll(".", "_");
        out.set(`${name}.lora_down.weight`, down);
        out.set(`${name}.lora_up.weight`, up);
        out.set(`${name}.alpha`, tensor(alpha));
      } else {
        const name = PREFIXES[component].diffusers + key;
        out.set(`${name}.lora_A.weight`, down);
        out.set(`${name}.lora_B.weight`, scale === 1 ? up : up.mul(scale));
      }
    }
  }
  return out;
}
