/** Commands made of declarations: `tweedie train sdseg …` and its like. */
import { type CommandDef, defineCommand } from "citty";
import { type ActionName, SYSTEMS, type System } from "../../systems/index.ts";
import { stopOnSignals } from "../generate/signals.ts";
import type { HelpfulCommand } from "../help.ts";
import { actionOptions, flagsOf } from "./options.ts";
import { show } from "./show.ts";

function systemCommand(system: System, name: ActionName): CommandDef {
  const action = system.actions[name]!;
  const command: HelpfulCommand = {
    ...defineCommand({
      meta: { name: system.name, description: action.about },
      args: flagsOf(action),
      async run({ rawArgs }) {
        const stop = stopOnSignals(() => undefined);
        try {
          await show(action.run(actionOptions(action, rawArgs), { signal: stop.signal }));
        } finally {
          stop.release();
        }
      },
    }),
    ...(action.examples && { examples: action.examples }),
  };
  return command;
}

/** One action over all systems that have it. */
export function actionCommand(name: ActionName, description: string): CommandDef {
  const able = SYSTEMS.filter((system) => system.actions[name]);
  return defineCommand({
    meta: { name, description },
    subCommands: Object.fromEntries(able.map((system) => [system.name, () => systemCommand(system, name)])),
  });
}
