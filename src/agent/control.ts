import type { Command, CommandAnswer } from "../api/commands.ts";
import type { DeadLetter } from "../dead-letters/index.ts";
import type { ChannelRow } from "./channel-rows.ts";
import type { LedgerEdge } from "./ledger.ts";
import type { AgentStatus } from "./status.ts";
import type { TapSession } from "./tap.ts";

/** What commands may ask of a running agent. */
export interface AgentControl {
  status(): AgentStatus;
  /** Every channel: how full it is, and what went through it. */
  channels(): ChannelRow[];
  /** The ledger of now. */
  ledger(): LedgerEdge[];
  /** The first `limit` dead letters, oldest first; fewer where these are large (see `firstLetters`). */
  deadLetters(limit: number): Promise<DeadLetter[]>;
  /** Rows of `checkpoints list`. */
  checkpoints(): CheckpointRow[] | Promise<CheckpointRow[]>;
  /** Why a path is, or is not, being read. */
  why(path: string): Promise<unknown>;
  /** Does something to the agent, after what it was told before. */
  command(command: Command): Promise<CommandAnswer>;
  replayDeadLetters(ids: readonly string[]): Promise<number>;
  purgeDeadLetters(ids: readonly string[]): Promise<number>;
  /** At most `limit` records as they leave a component; "unknown": there is no such one, "busy": too many taps at once. */
  tap(component: string, limit: number): TapSession | "unknown" | "busy";
}

/** Where one sink stands in one file. */
export interface CheckpointRow {
  readonly path: string;
  readonly source: string;
  readonly sink: string;
  /** Bytes: everything below has ended at the sink. */
  readonly position: number;
  /** Bytes ended above the position, behind a gap. */
  readonly ahead: number;
  /** Bytes, as last seen. */
  readonly size: number;
  /** True for a file that was rotated away, deleted or truncated. */
  readonly isFinished: boolean;
  readonly key: string;
}
