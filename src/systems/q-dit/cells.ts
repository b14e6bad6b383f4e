/** What the study compares: a model (as it is, or with planted outliers), a way to round it, bits, group sizes. */
import { METHODS, type MethodName } from "./baselines.ts";
import type { Condition } from "./lab.ts";
import type { Bits } from "./method.ts";

/** A search for group sizes: on which model, and how weights are rounded while candidates are judged. */
export interface Search {
  readonly condition: Condition;
  readonly method: "group-dynamic" | "q-dit";
}

/** Group sizes by the search of this kind on the same model: the best, or the best of as many random candidates. */
export interface Searched {
  readonly by: Search["method"];
  readonly take: "best" | "random";
}

/** A model in few bits. */
export interface Form {
  readonly condition: Condition;
  readonly method: MethodName | "fp32";
  readonly bits: Bits;
  readonly groups: number | "none" | Searched;
}

/** How pictures are drawn, where it is not as usual. */
export interface View {
  readonly steps?: number;
  readonly guidance?: number;
}

const W = (weights: number, activations = 8): Bits => ({ weights, activations });

export const bitsText = ({ weights, activations }: Bits): string => `W${weights}A${activations}`;

export const groupsText = ({ groups }: Pick<Form, "groups">): string =>
  typeof groups === "object"
    ? `${groups.take === "best" ? "searched" : "random"} ${groups.by === "q-dit" ? "by GPTQ" : "to nearest"}`
    : groups === "none"
      ? ""
      : `groups ${groups}`;

/** Such as "natural q-dit W4A8 groups 64". */
export const formName = (form: Form): string =>
  form.method === "fp32"
    ? `${form.condition} fp32`
    : [form.condition, form.method, bitsText(form.bits), groupsText(form)].filter(Boolean).join(" ");

/** Such as "20 steps"; empty for the usual pictures. */
export const viewText = ({ steps, guidance }: View): string =>
  [steps && `${steps} steps`, guidance && `guidance ${guidance}`].filter(Boolean).join(", ");

export const pictureName = (form: Form, view: View = {}): string =>
  [formName(form), viewText(view)].filter(Boolean).join(", ");

export const searchName = ({ condition, method }: Search): string => `search ${condition} ${method}`;

/** Methods that round in groups, which takes a size. */
const grouped = (method: MethodName): boolean =>
  typeof METHODS[method].scheme({ weights: 4, activations: 8 }, 64).weight.granularity === "number";

export const form = (
  condition: Condition,
  method: Form["method"],
  bits: Bits = W(4),
  groups?: Form["groups"],
): Form => ({
  condition,
  method,
  bits: method === "fp32" ? W(32, 32) : bits,
  groups: groups ?? (method !== "fp32" && grouped(method) ? 64 : "none"),
});

const both = (make: (condition: Condition) => readonly Form[]): Form[] =>
  (["natural", "stress"] as const).flatMap(make);

const INGREDIENTS = ["tensor-static", "group-static", "group-dynamic", "q-dit"] as const;
const ALL = [
  ...(["channel-static", "channel-token", "repq", "smooth", "gptq-static"] as const),
  ...INGREDIENTS,
] as const;

/** Forms whose single predictions are compared, and those that are drawn with; `further` are the less important ones. */
export interface Wanted {
  readonly predicted: readonly Form[];
  readonly drawn: readonly (readonly [Form, View])[];
}

const usual = (forms: readonly Form[]): [Form, View][] => forms.map((one) => [one, {}]);

export const CORE: Wanted = {
  predicted: both((condition) => [
    ...ALL.map((method) => form(condition, method)),
    form(condition, "q-dit", W(4), 32),
    form(condition, "gptq-static-in-order"),
    ...[64, 32].map((group) => form(condition, "q-dit-in-order", W(4), group)),
  ]),
  drawn: usual([
    ...both((condition) => [
      form(condition, "fp32"),
      ...[...INGREDIENTS, "gptq-static" as const].map((method) => form(condition, method)),
    ]),
    ...[8, 6].map((bits) => form("natural", "q-dit", W(bits))),
  ]),
};

const FEW = (bits = W(4)): Form[] => [
  form("natural", "fp32"),
  form("natural", "tensor-static", bits),
  form("natural", "q-dit", bits),
];

/** Other bits, guidance, and whether more steps help or hurt: errors add up, but each is smaller. */
export const FURTHER: Wanted = {
  predicted: both((condition) => [
    ...[8, 6, 3].flatMap((bits) => [
      ...ALL.map((method) => form(condition, method, W(bits))),
      form(condition, "q-dit", W(bits), 32),
    ]),
    ...["channel-static" as const, ...INGREDIENTS].map((method) => form(condition, method, W(4, 4))),
  ]),
  drawn: [
    ...usual([8, 6].map((bits) => form("natural", "tensor-static", W(bits)))),
    ...FEW().map((one): [Form, View] => [one, { guidance: 1.5 }]),
    ...[10, 20, 50, 100].flatMap((steps) =>
      [...FEW(), form("natural", "q-dit", W(8))].map((one): [Form, View] => [one, { steps }]),
    ),
  ],
};

/** As in the end, where little is lost (its sizes are packed as well); by rounding to nearest, as in the released code; where much is lost. */
export const SEARCHES: readonly [Search, ...Search[]] = [
  { condition: "natural", method: "q-dit" },
  { condition: "natural", method: "group-dynamic" },
  { condition: "stress", method: "q-dit" },
];

/** What is drawn with the sizes of the searches: each with its own rounding, beside its control. */
export const SEARCHED: readonly Form[] = [
  ...SEARCHES.flatMap(({ condition, method }) =>
    (["best", "random"] as const).map((take) => form(condition, method, W(4), { by: method, take })),
  ),
  form("natural", "q-dit", W(4), { by: "group-dynamic", take: "best" }),
];

/** A packed model, natural and rounded by GPTQ. */
export type Packed = Pick<Form, "bits" | "groups">;
export const PACKED: readonly Packed[] = [
  ...[8, 6, 4].map((weights) => form("natural", "q-dit", W(weights))),
  form("natural", "q-dit", W(4), { by: "q-dit", take: "best" }),
];
export const packedName = (one: Packed): string => `${bitsText(one.bits)} ${groupsText(one)}`;

/** DiT-XL's perceptron, forwards and back, for one picture of 256 tokens. */
export const SHAPES = [
  { tokens: 256, inFeatures: 1152, outFeatures: 4608 },
  { tokens: 256, inFeatures: 4608, outFeatures: 1152 },
];
