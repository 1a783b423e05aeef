import pc from "picocolors";
import type { StageList } from "../config/index.ts";

/** Everything of the process that a command touches, so that a test can run one in its own process. */
export interface CliIo {
  /** Data only. */
  readonly stdout: CliStream;
  /** Every diagnostic. */
  readonly stderr: CliStream;
  readonly env: { readonly [name: string]: string | undefined };
  readonly cwd: string;
  /** What the command ends with; an action made by `action` sets it. Default 0. */
  exitCode: number;
  /** Default: everything built in. */
  readonly stages?: StageList;
}

export interface CliStream {
  /** False: whoever reads is slow; wait for `drain`. */
  write(text: string): unknown;
  once?(event: "drain" | "error", listener: () => void): unknown;
  /** True on a terminal. */
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

/** The process itself. */
export function processIo(): CliIo {
  const { stdout, stderr, env } = process;
  return { stdout, stderr, env, cwd: process.cwd(), exitCode: 0 };
}

/** Colours on a terminal, unless NO_COLOR is set (to anything but nothing, see no-color.org) or the terminal is dumb. */
export function hasColours(stream: CliStream, env: CliIo["env"]): boolean {
  return stream.isTTY === true && !env["NO_COLOR"] && env["TERM"] !== "dumb";
}

/** Paints for one stream; without colours the text comes back as it is. */
export function coloursFor(stream: CliStream, env: CliIo["env"]): ReturnType<typeof pc.createColors> {
  return pc.createColors(hasColours(stream, env));
}
