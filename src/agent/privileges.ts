import type { Plan } from "../config/plan.ts";
import { ConfigError, type Mistake, toError } from "../errors.ts";

/**
 * Before anything is touched: asks every source that needs something of this machine whether it is there.
 * @throws ConfigError `TR_PRIVILEGE_MISSING`, with all that is missing
 */
export async function checkPrivileges(plan: Pick<Plan, "sources">): Promise<void> {
  const mistakes: Mistake[] = [];
  for (const { name, definition, options } of plan.sources) {
    try {
      await definition.checkPrivilege?.(options);
    } catch (error) {
      mistakes.push({ key: `sources.${name}`, message: toError(error).message });
    }
  }
  if (mistakes.length > 0) throw new ConfigError(mistakes, "TR_PRIVILEGE_MISSING");
}
