/** Static values of a tree: what a checkpoint of its tensors does not say, and decides what they mean. */
import { ArgumentError } from "../errors.ts";
import { Tensor } from "../tensor/index.ts";
import { Module } from "./module.ts";

const isRecord = (value: object): boolean => {
  const proto = Object.getPrototypeOf(value);
  return proto === Object.prototype || proto === null;
};

/** Names of functions this short come from a minifier, and differ from build to build. */
const MINIFIED = 2;

/** Numbers, texts and names of functions in the modules, arrays and plain objects of a tree, by path. */
export function staticFields(tree: unknown): Record<string, string> {
  const found: Record<string, string> = {};
  const visit = (value: unknown, path: string): void => {
    if (value instanceof Tensor || value === undefined || value === null) return;
    if (typeof value === "function") {
      if (value.name.length > MINIFIED) found[path] = `function ${value.name}`;
    } else if (typeof value !== "object") found[path] = `${value}`;
    else if (Array.isArray(value) || value instanceof Module || isRecord(value))
      for (const [name, child] of Object.entries(value)) visit(child, path ? `${path}.${name}` : name);
  };
  visit(tree, "");
  return found;
}

/** @throws ArgumentError naming the first static field that is another one than it was */
export function checkStatics(
  saved: Readonly<Record<string, string>>,
  own: Readonly<Record<string, string>>,
  where: string,
): void {
  for (const path of new Set([...Object.keys(saved), ...Object.keys(own)])) {
    if (saved[path] === own[path]) continue;
    const text = (value: string | undefined): string => (value === undefined ? "nothing" : value);
    throw new ArgumentError(
      `train: ${where} was made by a model with ${path} = ${text(saved[path])}, this one has ${text(own[path])}`,
    );
  }
}
