import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const AGENT = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));

interface TortureRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `tailrace torture`; `onStderr` sees its standard error as it grows, and may signal the process. */
export async function torture(
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
  onStderr: (text: string, signal: (name: NodeJS.Signals) => void) => void = () => {},
): Promise<TortureRun> {
  const child = spawn(process.execPath, [AGENT, "torture", ...args], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    onStderr(stderr, (name) => child.kill(name));
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}
