import { accessSync, constants, statSync } from "node:fs";
import { delimiter, resolve } from "node:path";

/**
 * Why a handler's command or module cannot be run on this machine, before anything is started: it is not there, or may not
 * be executed. Undefined: it probably can.
 */
export function whyNotRunnable({
  command,
  module,
}: {
  readonly command?: readonly string[] | undefined;
  readonly module?: string | undefined;
}): { readonly path: readonly (string | number)[]; readonly message: string } | undefined {
  if (command !== undefined) {
    const [program] = command;
    if (program === undefined || isProgram(program)) return undefined;
    const where = program.includes("/") ? "there is no such file that may be executed" : "PATH has no such program";
    return { path: ["command", 0], message: `${where}: ${program}` };
  }
  if (module !== undefined && !isFile(module)) return { path: ["module"], message: `there is no such file: ${module}` };
  return undefined;
}

function isProgram(program: string): boolean {
  if (program.includes("/")) return mayExecute(resolve(program));
  // As execvp(3) looks for it.
  const path = process.env["PATH"] ?? "/usr/local/bin:/bin:/usr/bin";
  return path.split(delimiter).some((folder) => mayExecute(resolve(folder, program)));
}

function mayExecute(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return isFile(path);
  } catch {
    return false;
  }
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
