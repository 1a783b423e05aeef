import { hostname } from "node:os";
import { join, resolve } from "node:path";
import type { Command, CommandAnswer } from "../api/commands.ts";
import { ChannelMonitor, ChannelRegistry } from "../channel/index.ts";
import { isStrayCommitRejection } from "../checkpoint/index.ts";
import type { Plan } from "../config/plan.ts";
import {
  type DeadLetter,
  type DeadLetterStore,
  DeadLetterWriter,
  firstLetters,
  openDeadLetters,
} from "../dead-letters/index.ts";
import { ConfigError, describeMistake, StageError, TailraceError, toError } from "../errors.ts";
import { openPipeline } from "../pipeline/build.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import { CancellationToken } from "../runtime/cancellation-token.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { MemoryBudget } from "../runtime/memory-budget.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { type Random, systemRandom } from "../runtime/random.ts";
import { type ProcessErrors, type SupervisedError, Supervisor, type SupervisorResult } from "../runtime/supervisor.ts";
import type { EventSubscription } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import { withThreads } from "../transform-threads/with-threads.ts";
import { channelRows } from "./channel-rows.ts";
import { checkpointRows } from "./checkpoint-rows.ts";
import { reportEnd } from "./closing-report.ts";
import { CommandProcessor } from "./command-processor.ts";
import type { AgentControl } from "./control.ts";
import { ControlServer } from "./control-server.ts";
import { DeadLetterReplay } from "./dead-letter-replay.ts";
import { EventPublisher } from "./event-publisher.ts";
import { LedgerKeeper, ledgerOf } from "./ledger.ts";
import { memoryCeilingMiB } from "./memory-ceiling.ts";
import { Observation } from "./observation.ts";
import { checkPrivileges } from "./privileges.ts";
import { settingsForLater } from "./settings-for-later.ts";
import { ShutdownWatch } from "./shutdown-watch.ts";
import { AgentState } from "./state.ts";
import { type AgentStatus, statusOf } from "./status.ts";
import { type TapSession, Taps } from "./tap.ts";
import { unreadableText } from "./unreadable.ts";

/** Reads are of this many bytes; memory for them is pooled. */
const CHUNK_BYTES = 256 * 1024;
/** How often a `drain` looks whether all has come through. */
const DRAIN_LOOK_MS = 10;
/** How long a forced end waits for its ledger: a disk that hangs may be the very reason for it. */
const LAST_LEDGER_MS = 200;

export interface AgentOptions {
  readonly plan: Plan;
  readonly log: Logger;
  /** Reads what is there now, delivers it, and ends. */
  readonly once?: boolean;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly fileSystem?: FileSystem;
  readonly host?: string;
  /** Uncaught errors of the process end in the supervisor; default: they are not watched (a library must not). */
  readonly processErrors?: ProcessErrors;
  /** Reads the configuration again, for a reload; default: there is none to read. Rejects with what is wrong with it. */
  readonly loadPlan?: () => Promise<Plan>;
  /** Takes the least level that is logged from now on; default: the level stays. */
  readonly setLogLevel?: (level: "error" | "warn" | "info" | "debug") => void;
  /** Ends the process where a shutdown does not; default: `process.exit`. */
  readonly forceExit?: (code: number) => void;
}

/**
 * The composition root: a plan in, a running agent out. `openAgent` locks the state directory, opens the store and every
 * stage; `run` moves records until it is stopped (or, with `once`, until all is delivered) and tells the exit code.
 */
export class Agent implements AgentControl {
  readonly #options: AgentOptions;
  readonly #clock: Clock;
  readonly #state: AgentState;
  readonly #deadLetters: DeadLetterStore;
  readonly #writer: DeadLetterWriter;
  readonly #pipeline: Pipeline;
  readonly #supervisor: Supervisor;
  readonly #token: CancellationToken;
  readonly #monitor: ChannelMonitor;
  readonly #control: ControlServer;
  readonly #replay: DeadLetterReplay;
  readonly #observation: Observation;
  readonly #channels: ChannelRegistry;
  readonly #events: EventPublisher;
  readonly #taps: Taps;
  readonly #commands: CommandProcessor;
  #ended: Promise<void> = Promise.resolve();
  #isReported = false;
  /** The work did not end by itself. */
  #isStopped = false;
  #lastLedger: Promise<void> | undefined;

  /** @internal Use `openAgent`. */
  constructor(parts: {
    options: AgentOptions;
    clock: Clock;
    state: AgentState;
    deadLetters: DeadLetterStore;
    writer: DeadLetterWriter;
    pipeline: Pipeline;
    supervisor: (shutdown: () => Promise<void>) => Supervisor;
    token: CancellationToken;
    monitor: ChannelMonitor;
    channels: ChannelRegistry;
    observation: Observation;
    events: EventPublisher;
  }) {
    this.#options = parts.options;
    this.#clock = parts.clock;
    this.#state = parts.state;
    this.#deadLetters = parts.deadLetters;
    this.#writer = parts.writer;
    this.#pipeline = parts.pipeline;
    this.#token = parts.token;
    this.#monitor = parts.monitor;
    this.#channels = parts.channels;
    this.#observation = parts.observation;
    this.#events = parts.events;
    const { clock, channels, pipeline } = parts;
    this.#taps = new Taps({ channels, clock, size: parts.options.plan.channels.tap, pipeline });
    this.#supervisor = parts.supervisor(() => this.#shutDown());
    const size = parts.options.plan.channels.commands;
    this.#commands = new CommandProcessor({ channels, clock, size, carryOut: (command) => this.#carryOut(command) });
    this.#control = new ControlServer(join(this.#state.stateDir, "control.sock"), this);
    this.#replay = new DeadLetterReplay(parts.deadLetters, parts.pipeline, parts.clock, parts.options.log);
  }

  /** Runs to the end. Exit code 0: stopped gracefully or finished; 1: a failure, the first of which is in the result. */
  async run(): Promise<SupervisorResult> {
    const { processErrors, once = false } = this.#options;
    const watching = processErrors === undefined ? undefined : this.#supervisor.watch(processErrors);
    this.#supervisor.ignoreStray(isStrayCommitRejection);
    this.#monitor.start();
    await this.#control.listen();
    this.#observation.started(this, this.#pipeline);
    this.#replay.start(this.#token.signal);
    void this.#commands.run();
    this.#ended = this.#pipeline
      .run({ signal: this.#token.signal, once })
      .finally(() => {
        this.#isStopped = this.#token.isCancelled;
      })
      .catch((error: unknown) => this.#supervisor.report(error, "checkpoint"))
      .then(() => this.#supervisor.finish());
    const result = await this.#supervisor.run();
    watching?.[Symbol.dispose]();
    // Whoever asked for this result ends the process with it.
    if (result.isForced) await this.lastLedger();
    const unread = once && result.exitCode === 0 && !this.#isStopped ? this.#tellUnreadable() : undefined;
    return unread === undefined ? result : { ...result, exitCode: 1, first: unread };
  }

  /** A run that was to read what is there, and could not read all of it, has failed, though all else was delivered. */
  #tellUnreadable(): SupervisedError | undefined {
    let first: SupervisedError | undefined;
    for (const { name: component, source } of this.#pipeline.sources) {
      const unreadable = source.status?.().unreadable ?? [];
      if (unreadable.length === 0) continue;
      const text = unreadableText(unreadable);
      const error = new StageError("TR_STAGE_FAILED", component, text);
      this.#options.log.error({ component, code: error.code, files: unreadable.length }, text);
      first ??= { error, component };
    }
    return first;
  }

  /** Stops gracefully: as SIGTERM does. */
  stop(reason: string): void {
    this.#supervisor.terminate(reason);
  }

  /** Stops now: as a second SIGTERM does. */
  force(reason: string): void {
    this.#supervisor.force(reason);
  }

  /** Carries out a command after those that were given before; see `CommandProcessor.submit`. */
  command(command: Command): Promise<CommandAnswer> {
    return this.#commands.submit(command);
  }

  status(): AgentStatus {
    return statusOf(this.#pipeline, this.#clock);
  }

  channels() {
    return channelRows(this.#channels);
  }

  ledger() {
    return ledgerOf(this.#channels);
  }

  /** Lifecycle events from now on, until the agent ends or the subscription is closed (a `break` closes it). */
  events(): EventSubscription {
    return this.#events.subscribe();
  }

  tap(component: string, limit: number): TapSession | "unknown" | "busy" {
    return this.#taps.open(component, limit);
  }

  /** Where the API listens: `http://host:port` or `unix:/path`; undefined where there is none. */
  get apiAddress(): string | undefined {
    return this.#observation.address;
  }

  deadLetters(limit: number): Promise<DeadLetter[]> {
    return firstLetters(this.#deadLetters, limit);
  }

  checkpoints() {
    return checkpointRows(this.#state.checkpoint);
  }

  async why(path: string): Promise<unknown> {
    const answers: unknown[] = [];
    for (const { name, source } of this.#pipeline.sources) {
      if (source.why !== undefined) answers.push({ source: name, ...(await source.why(path)) });
    }
    return answers;
  }

  async #carryOut(command: Command): Promise<CommandAnswer> {
    const pipeline = this.#pipeline;
    switch (command.command) {
      case "reload":
        return this.#reload();
      case "pause":
        pipeline.pause();
        return { message: "sources hand nothing on until `resume`" };
      case "resume":
        pipeline.resume();
        return { message: "sources go on" };
      case "rotate":
        pipeline.rotateOutputs();
        return { message: "sinks that write files start new ones at their next barrier" };
      case "flush":
        await pipeline.committer.flush(this.#token.signal);
        return { message: "what had ended is committed" };
      case "drain":
        pipeline.pause();
        while (!pipeline.isDrained) {
          if (this.#token.signal.aborted) throw new TailraceError("TR_CHANNEL_CLOSED", "the agent stops");
          await this.#clock.sleep(DRAIN_LOOK_MS, { signal: this.#token.signal });
        }
        return { message: "everything is delivered and committed; sources hand nothing on until `resume`" };
      case "stop":
        this.stop("the command `stop`");
        return { message: "the agent stops gracefully" };
      case "reset_position": {
        let files = 0;
        for (const { source } of pipeline.sources) files += (await source.reset?.(command.path)) ?? 0;
        return { message: `${files} ${files === 1 ? "file is" : "files are"} read anew`, files };
      }
      case "set_log_level":
        if (this.#options.setLogLevel === undefined)
          throw new TailraceError("TR_USAGE", "the log of this agent has no level that could be set");
        this.#options.setLogLevel(command.level);
        return { message: `what is ${command.level} or worse is logged from now on` };
    }
  }

  async #reload(): Promise<CommandAnswer> {
    const { loadPlan, log } = this.#options;
    const events = this.#events.of("orchestration");
    try {
      if (loadPlan === undefined)
        throw new TailraceError("TR_USAGE", "this agent was not started from a configuration that could be read again");
      const loaded = await loadPlan();
      const { transformThreads } = this.#pipeline.plan;
      const plan = withThreads({ ...loaded, transformThreads });
      const waiting = settingsForLater(this.#pipeline.plan, plan, this.#state.stateDir);
      if (loaded.transformThreads !== transformThreads) waiting.push("transform_threads");
      const applied = await this.#pipeline.reload({ ...plan, stateDir: this.#state.stateDir });
      this.#taps.attach();
      const later = waiting.map((key) => {
        const sentence = `${key} has changed; that takes effect at the next start`;
        log.warn({ key }, sentence);
        return sentence;
      });
      const sentences = applied.length === 0 ? later : [applied.join(", "), ...later];
      const what = sentences.length === 0 ? "nothing is different" : sentences.join(". ");
      events.emit("reload", `The configuration was read again: ${what}`, { applied: true });
      return { message: what, changes: [...applied, ...later] };
    } catch (thrown) {
      const error = toError(thrown);
      const mistakes = error instanceof ConfigError ? error.mistakes.map(describeMistake) : [error.message];
      for (const mistake of mistakes) log.error({ component: "orchestration" }, mistake);
      events.emit("reload", "The new configuration is not used; everything runs as before", {
        applied: false,
        reason: mistakes.join("; "),
      });
      throw error;
    }
  }

  replayDeadLetters(ids: readonly string[]): Promise<number> {
    return this.#replay.order(ids);
  }

  purgeDeadLetters(ids: readonly string[]): Promise<number> {
    return this.#deadLetters.remove(ids);
  }

  /** What is left to do once the token is cancelled, or the work has ended by itself. */
  async #shutDown(): Promise<void> {
    try {
      await this.#closeAll();
    } finally {
      this.report();
    }
  }

  async #closeAll(): Promise<void> {
    const { plan, log } = this.#options;
    const phase = (phase: string, message: string) =>
      this.#events.of("agent").emit("shutdown_phase", message, { phase });
    this.#observation.stopping();
    this.#commands.close();
    phase("draining", "Shutting down: sources stop, channels drain, sinks flush");
    const watch = new ShutdownWatch({
      pipeline: this.#pipeline,
      clock: this.#clock,
      log,
      graceMs: plan.shutdown.sinkGraceMs,
      fleeting: plan.sources.filter(({ definition }) => definition.replay === "fleeting").map(({ name }) => name),
      onLoss: (message) => this.#supervisor.report(new TailraceError("TR_STAGE_FAILED", message), "shutdown"),
    });
    watch.start();
    await this.#ended;
    watch.stop();
    await this.#replay.close();
    this.#taps.close();
    phase("closing", "Shutting down: all has drained, stages close");
    await this.#pipeline.close();
    // The ledger of the end: what was in channel when the last positions were committed has gone somewhere since.
    await this.#state.groupCommit.submit([]).catch((error: unknown) => {
      log.warn({ error: toError(error).message }, "the last ledger could not be saved; `audit` shows the one before");
    });
    this.#monitor.stop();
    this.#writer.flush();
    await this.#deadLetters.close();
    phase("ended", "Shutting down: nothing moves any more");
    await this.#events.close();
    // Once more: what was dropped since, on the way to a listener, is logged.
    this.#monitor.stop();
    await this.#observation.close();
    await this.#state.close();
    await this.#control.close();
  }

  /** What was delivered, what was not, what is left for the next start; once, also where the end is forced. @internal */
  report(): void {
    if (this.#isReported) return;
    this.#isReported = true;
    reportEnd(this.#pipeline, this.#options.log);
  }

  /**
   * Saves the ledger where the end is forced, for `audit`: after a run without a commit that of its start would be there.
   * It is one more transaction as any other (dying in it is dying between two), it never fails, and it takes 200 ms at most. @internal
   */
  lastLedger(): Promise<void> {
    this.#lastLedger ??= Promise.race([
      this.#state.groupCommit.submit([]).catch(() => {}),
      this.#clock.sleep(LAST_LEDGER_MS),
    ]);
    return this.#lastLedger;
  }
}

/**
 * Opens an agent.
 * @throws ConfigError when a privilege is missing, CheckpointError when the state directory is refused, StageError when a
 * stage cannot be opened; nothing is left running then.
 */
export async function openAgent(options: AgentOptions): Promise<Agent> {
  const { log } = options;
  const plan = withThreads(options.plan);
  await checkPrivileges(plan);
  const clock = options.clock ?? systemClock;
  const random = options.random ?? systemRandom;
  const stateDir = resolve(plan.stateDir);
  const channels = new ChannelRegistry();
  const host = options.host ?? hostname();
  const { eventPublisher: queue, eventStream: listener } = plan.channels;
  const events = new EventPublisher({ channels, clock, log, queue, listener });
  const observation = await Observation.prepare({ plan, clock, log, host, channels, events });
  const state = await AgentState.open(stateDir, clock, log, {
    observeSeconds: observation.observeCommit,
    events: events.of("checkpoint"),
  }).catch(async (error: unknown) => {
    await events.close();
    await observation.close();
    throw error;
  });
  const token = new CancellationToken();
  let supervisor: Supervisor | undefined;
  let opened: Agent | undefined;
  try {
    await observation.listen(stateDir, random);
    state.groupCommit.contribute(new LedgerKeeper(channels));
    const deadLetters = await openDeadLetters({
      folder: join(stateDir, "dead-letters"),
      maxBytes: plan.deadLetters.maxBytes,
      random,
    });
    const writer = new DeadLetterWriter({ store: deadLetters, clock, random, events: events.of("dead_letters"), log });
    const early: { error: Error; component: string }[] = [];
    const pipeline = await openPipeline({
      plan: { ...plan, stateDir },
      clock,
      random,
      fileSystem: options.fileSystem ?? nodeFileSystem,
      log,
      events: (component) => events.of(component),
      host,
      channels,
      checkpoint: state.checkpoint,
      groupCommit: state.groupCommit,
      deadLetters: writer,
      budget: new MemoryBudget(plan.channels.totalBytes, CHUNK_BYTES),
      onLastCommitFailed: async (error) => {
        // The disk is full: the reserve is there for exactly this commit.
        log.warn({ error: error.message }, "the last commit failed; freeing the reserve for one more try");
        await state.releaseReserve();
      },
      onFailure: (error, component) =>
        supervisor === undefined ? early.push({ error, component }) : supervisor.report(error, component),
    }).catch(async (error: unknown) => {
      await deadLetters.close();
      throw error;
    });
    const agent = new Agent({
      options,
      clock,
      state,
      deadLetters,
      writer,
      pipeline,
      token,
      channels,
      observation,
      events,
      monitor: new ChannelMonitor({
        registry: channels,
        clock,
        log: events.monitorLog(),
        warningThreshold: plan.channels.warningThreshold,
        totalBytes: plan.channels.totalBytes,
      }),
      supervisor: (shutdown) => {
        supervisor = new Supervisor({
          clock,
          log,
          token,
          shutdown,
          gracefulTimeoutMs: plan.shutdown.gracefulTimeoutMs,
          onSignalTimeoutMs: plan.shutdown.onSignalTimeoutMs,
          forceExit: (code) => {
            opened?.report();
            const { forceExit = (last: number) => process.exit(last) } = options;
            void Promise.resolve(opened?.lastLedger()).then(() => forceExit(code));
          },
          registry: channels,
          errorBufferSize: plan.channels.supervisorErrors.bufferSize,
        });
        for (const { error, component } of early) supervisor.report(error, component);
        return supervisor;
      },
    });
    opened = agent;
    log.info({ state_dir: stateDir }, `memory ceiling: ${memoryCeilingMiB(plan)} MiB`);
    return agent;
  } catch (error) {
    await events.close();
    await observation.close();
    await state.close();
    throw error;
  }
}
