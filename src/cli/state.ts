import { resolve } from "node:path";
import { ControlClient } from "../agent/control-client.ts";
import type { CheckpointStore, StoredState } from "../checkpoint/index.ts";
import { refuseFile } from "../checkpoint/state-directory.ts";
import type { Plan } from "../config/index.ts";
import { type ConfigOptions, loadPlanFromOptions } from "./config-options.ts";
import type { CliIo } from "./io.ts";

/** The state that a command is about: of a running agent, or at rest. */
export interface CommandState {
  readonly stateDir: string;
  readonly plan: Plan;
  /** Set while an agent runs on it: ask it, and change things through it only. */
  readonly agent: ControlClient | undefined;
}

/**
 * Finds the state directory of a command's options, and whether an agent runs on it. Creates nothing.
 * @throws CheckpointError `TR_STATE_UNUSABLE` if something else is there
 */
export async function stateFromOptions(options: ConfigOptions, io: CliIo): Promise<CommandState> {
  const { plan } = await loadPlanFromOptions(options, io, { needs: "nothing" });
  const stateDir = resolve(io.cwd, plan.stateDir);
  await refuseFile(stateDir);
  const client = new ControlClient(stateDir);
  return { stateDir, plan, agent: (await client.isRunning()) ? client : undefined };
}

/** Everything in the store at rest, which is not changed; nothing where no agent has run yet. */
export async function readStore(stateDir: string): Promise<StoredState> {
  const { openLmdbStoreForReading } = await import("../checkpoint/index.ts");
  const store = await openLmdbStoreForReading(stateDir);
  if (store === undefined) return { positions: [], files: [], marks: [], notes: [] };
  try {
    return await store.load();
  } finally {
    await store.close();
  }
}

/** Changes the state at rest, under its lock. @throws CheckpointError `TR_STATE_IN_USE` if somebody holds it after all. */
export async function changeStore<Result>(
  stateDir: string,
  change: (store: CheckpointStore) => Promise<Result>,
): Promise<Result> {
  const [{ openLmdbStore }, { lockDirectory }] = await Promise.all([
    import("../checkpoint/index.ts"),
    import("../runtime/directory-lock.ts"),
  ]);
  using _lock = await lockDirectory(stateDir);
  const store = await openLmdbStore(stateDir);
  try {
    return await change(store);
  } finally {
    await store.close();
  }
}
