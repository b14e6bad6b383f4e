/** Captions as the text encoder of a pipeline takes them. */
import { ArgumentError } from "../../errors.ts";
import { CLIPTokenizer } from "../../networks/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";

/** The tokenizer of a pipeline, of its first text encoder by default. @throws ArgumentError when it has none */
export function tokenizerOf({ tokenizers, path }: PipelineComponents, which = 0): CLIPTokenizer {
  const files = tokenizers[which];
  if (!files) throw new ArgumentError(`${path}: captions need a tokenizer, this model has none`);
  const { merges, vocabulary, config } = files;
  return new CLIPTokenizer({ merges, ...(vocabulary && { vocabulary }), config });
}

/** Captions between their ends, cut or filled up. // [N, T] */
export function captionIds(tokenizer: CLIPTokenizer, captions: readonly string[]): Tensor {
  const rows = captions.flatMap((caption) => tokenizer.encode(caption).ids);
  return fromHost("i32", [captions.length, tokenizer.maxLength], Int32Array.from(rows));
}
