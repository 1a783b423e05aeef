import type { AgentCommand } from "./agent-process.ts";
import type { FamilyOptions } from "./log-family.ts";
import type { RotationKind } from "./rotation-kind.ts";

/** Where lines arrive. With a path: a file that the agent appends to; else a place of the receiver. */
export interface TargetSink {
  readonly name: string;
  /** Each line once and in order is owed; else at least once. */
  readonly isExact: boolean;
  readonly path?: string;
}

/** The agent that is tortured: its logs, its sinks, and how it is started. */
export interface Subject {
  readonly name: string;
  readonly families: readonly FamilyOptions[];
  readonly sinks: readonly TargetSink[];
  /** What it cannot take, and is therefore not done to it. */
  readonly without: ReadonlySet<Ingredient>;
  /** Undisturbed work of this length reads whatever is there, milliseconds. */
  readonly reachMs: number;
  /** What whoever reads the report should know: what was taken over, what was left out. */
  readonly notes: readonly string[];
  /** True: `gap` events tell what could not be had. Others are asked only for what could be had for sure. */
  readonly tellsGaps: boolean;
  /** `baseUrl` leads to the receiver; a sink's place there is its name. */
  command(baseUrl: string): AgentCommand;
}

/** What a run can be without, so that a fault is cornered. */
export type Ingredient = RotationKind | "kills" | "stops" | "moods" | "links" | "alias" | "disk" | "clock";
