/** Which options count beside which values of others: one rule for command lines, the studio's server and its page. */

/** By the name of another option, the values beside which an option counts; of no switch, true: given, false: not given. */
export type When = Readonly<Record<string, readonly (string | number | boolean)[]>>;

/** An option beside whose value another one does not count. */
export interface Without {
  readonly name: string;
  readonly is: unknown;
  readonly needed: When[string];
}

/** The first option that takes the effect from one with this `when`; undefined where it counts. */
export function withoutEffect(
  when: When | undefined,
  valueAt: (name: string) => unknown,
): Without | undefined {
  for (const [name, needed] of Object.entries(when ?? {})) {
    const is = valueAt(name);
    const given = typeof is === "boolean" ? is : is !== undefined && is !== null && is !== "";
    if (!(needed as readonly unknown[]).includes(is) && !needed.includes(given)) return { name, is, needed };
  }
  return undefined;
}
