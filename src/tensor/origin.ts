/**
 * Which tensor another one stands for: the placeholder of a trace for the argument, the trainer's copy for the model's
 * weight. So it can be said when a function uses a tensor from outside in place of the argument that it was given.
 */
import { ArgumentError } from "../errors.ts";
import { reachable } from "./lower.ts";
import type { Node, Tensor } from "./tensor.ts";

const origins = new WeakMap<Node, Node>();

/** Says that `copy` stands for `original`. */
export function standsFor(copy: Tensor, original: Tensor): void {
  if (copy.node !== original.node) origins.set(copy.node, original.node);
}

/** Forgets what a tensor stands for, which would be kept alive. */
export const standsAlone = (copy: Tensor): boolean => origins.delete(copy.node);

/** What a node stands for, directly or through others. */
function originsOf(node: Node): Node[] {
  const found: Node[] = [];
  for (let at: Node | undefined = node; at && !found.includes(at); at = origins.get(at)) found.push(at);
  return found;
}

/**
 * Arguments that a result does not depend on, while it does depend on the tensors that they stand for.
 *
 * @param given what the caller passed, and `sources` what the function was given in its place
 * @throws ArgumentError naming the first of them
 */
export function refuseFromOutside(
  outputs: readonly Tensor[],
  given: readonly Tensor[],
  sources: readonly Tensor[],
  paths: readonly string[],
  what: string,
): void {
  const nodes = reachable(outputs);
  const reached = new Set(nodes);
  const shadows = new Set(sources.map((t) => t.node));
  // Reached through the stand-in itself does not count.
  const used = new Set<Node>(outputs.map((t) => t.node));
  for (const node of nodes) if (!shadows.has(node)) for (const t of node.inputs) used.add(t.node);
  given.forEach((t, i) => {
    const source = sources[i]!.node;
    if (reached.has(source)) return;
    if (originsOf(t.node).some((node) => node !== source && used.has(node)))
      throw new ArgumentError(
        `${what}: the function uses the tensor "${paths[i] ?? ""}" from outside and not through its argument, so the argument does not matter; use the argument (in a module, \`call\` and its helpers must be methods, not fields like \`call = (x) => …\`)`,
      );
  });
}
