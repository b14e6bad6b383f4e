/** Recognises files of another format by their first bytes, so that an error can say what to do. */

interface Disguise {
  /** First bytes, as numbers or as ASCII text. */
  readonly magic: string | readonly number[];
  readonly hint: string;
}

/**
 * Python lines that turn a pickle into safetensors: training scripts keep the weights under "ema", "model" or "state_dict",
 * beside what is no tensor, and tensors that share memory, which safetensors refuses.
 */
export const CONVERT_RECIPE =
  "import torch; from safetensors.torch import save_file; w = torch.load(path, map_location='cpu', weights_only=True); " +
  "w = next((w[k] for k in ('ema', 'model_ema', 'state_dict', 'model') if isinstance(w.get(k), dict)), w); " +
  "save_file({k: v.clone().contiguous() for k, v in w.items() if torch.is_tensor(v)}, out)";
const CONVERT = `It is never parsed here, because loading a pickle can run any code. Convert it once with PyTorch: ${CONVERT_RECIPE}`;
const PAGE = "It looks like a web page: the download was probably answered with an error page";

/** Bytes of a file's start that are enough for {@link disguiseHint}. */
export const MAGIC_BYTES = 64;

const LFS = "version https://git-lfs";

const DISGUISES: readonly Disguise[] = [
  {
    magic: "PK\x03\x04",
    hint: `It is a zip archive, as PyTorch writes .pt, .ckpt and .bin files. ${CONVERT}`,
  },
  { magic: "PK\x05\x06", hint: "It is an empty zip archive" },
  { magic: [0x80, 2], hint: `It is a Python pickle. ${CONVERT}` },
  { magic: [0x80, 3], hint: `It is a Python pickle. ${CONVERT}` },
  { magic: [0x80, 4], hint: `It is a Python pickle. ${CONVERT}` },
  { magic: [0x80, 5], hint: `It is a Python pickle. ${CONVERT}` },
  {
    magic: LFS,
    hint: "It is a git-LFS pointer, not the file itself: run `git lfs pull`, or download the file again",
  },
  { magic: [0x1f, 0x8b], hint: "It is compressed with gzip: decompress it first" },
  { magic: [0x28, 0xb5, 0x2f, 0xfd], hint: "It is compressed with zstd: decompress it first" },
  { magic: [0x89, 0x50, 0x4e, 0x47], hint: "It is a PNG image" },
  { magic: [0xff, 0xd8, 0xff], hint: "It is a JPEG image" },
  { magic: "GGUF", hint: "It is a GGUF file" },
  { magic: "\x89HDF", hint: "It is an HDF5 file" },
  { magic: "\x93NUMPY", hint: "It is a NumPy .npy file" },
];

const HTML = /^<(?:!doctype|html|head|body)/i;

const textOf = (head: Uint8Array): string =>
  String.fromCharCode(...head.subarray(0, MAGIC_BYTES))
    .replace(/^\u00ef\u00bb\u00bf/, "")
    .trimStart();

/** Whether a file's beginning is that of something no format here begins with: a git-LFS pointer, or an error page. */
export const isStandIn = (head: Uint8Array): boolean => startsWith(head, LFS) || HTML.test(textOf(head));

function startsWith(head: Uint8Array, magic: string | readonly number[]): boolean {
  for (let i = 0; i < magic.length; i++) {
    if (head[i] !== (typeof magic === "string" ? magic.charCodeAt(i) : magic[i])) return false;
  }
  return true;
}

/**
 * What a file that failed to parse really is, as a sentence to append to the error; `""` when unknown.
 * Ask only after a failure: a valid safetensors header of 640 bytes also starts like a pickle.
 */
export function disguiseHint(head: Uint8Array): string {
  if (head.length === 0) return ". The file is empty: was its download or copy interrupted?";
  for (const { magic, hint } of DISGUISES) if (startsWith(head, magic)) return `. ${hint}`;
  const text = textOf(head);
  if (HTML.test(text) || /^<\?xml/i.test(text)) return `. ${PAGE}`;
  if (/^[{[]\s*(?:["}{[\]]|$)/.test(text)) {
    return ". It is JSON text: a shard index is opened with openSharded, a configuration is no weight file";
  }
  return "";
}
