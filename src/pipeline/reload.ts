import type { Plan } from "../config/plan.ts";
import { toError } from "../errors.ts";
import type { Source } from "../stage/contract.ts";
import type { Committer } from "./committer.ts";
import type { PipelineEnvironment } from "./environment.ts";
import { Fresh } from "./fresh-stages.ts";
import { graphOf, laneId, type Ways, waysOf } from "./graph.ts";
import { clearCleanStop, reconcileSinks, saveCleanStop } from "./known-sinks.ts";
import type { Lane } from "./lane.ts";
import { openSink, openSource, type PlannedSink, type PlannedSource } from "./open-stage.ts";
import type { Parts, SinkPart } from "./parts.ts";
import { type Components, differenceOf, isSame, type PlanDifference } from "./plan-difference.ts";
import { type Route, routesInto } from "./route.ts";
import { newLane } from "./runners.ts";
import { RunningSource } from "./running-source.ts";
import type { SinkRunner } from "./sink-runner.ts";
import { skipAtStart } from "./skipped-at-start.ts";
import { PipelineSourcePositions } from "./source-positions.ts";
import type { TransformRunner } from "./transform-runner.ts";
import { unwire, type Wires, wire } from "./wiring.ts";

export interface ReloadOptions {
  readonly environment: PipelineEnvironment;
  readonly committer: Committer;
  readonly parts: Parts;
  readonly abortTransforms: AbortSignal;
  /** A shutdown ends a reload where it stands. */
  readonly signal: AbortSignal;
  /** Takes over the loop of a component. */
  start(component: string, work: Promise<void>): void;
  startSource(running: RunningSource): void;
  /** To be closed at the very end. */
  retire(stage: AsyncDisposable): void;
}

/** How often a reload looks whether what it waits for has come, milliseconds. */
const LOOK_MS = 5;
/** How often it is looked whether a source that was stopped has told all that it has to. */
const SETTLE_LOOK_MS = 100;
/** How often it says what it waits for. */
const SAY_MS = 1000;

/**
 * From the plan that runs to another one, while everything that is in both goes on.
 *
 * ```
 * compare -> open what is new ------------------------- up to here a failure has changed nothing
 *         -> changed sinks: the new one takes over the batches of the old one
 *         -> sources that go or start anew: held, and still looking; what they handed on settles and is committed; stop
 *         -> hold the sources whose ways change; what is between two transforms comes through
 *         -> new ways, new positions ------------------ records behind this instant take the new ways
 *         -> sources with other options: told of them, where they can go on with them
 *         -> go on; what nobody feeds any more drains and closes
 * ```
 *
 * A source starts anew where its options changed and it cannot go on with them (`SourceDefinition.reconfigure`), and where
 * a sink must get what the source has already read: one with `backfill`, one that was here before, or one that is reached
 * by several ways which are now others. The rest of what runs is never stopped, only held for the instant of the change.
 */
export class Reload {
  readonly #options: ReloadOptions;
  /** From the first change on, the way back is another reload. */
  hasChangedSomething = false;

  constructor(options: ReloadOptions) {
    this.#options = options;
  }

  /** @returns one sentence for each change. */
  async run(next: Plan): Promise<readonly string[]> {
    const { parts } = this.#options;
    const now = runningComponents(parts);
    const difference = differenceOf(now, next);
    if (isSame(difference)) return this.#changeLimits(next);
    const { environment, committer, abortTransforms } = this.#options;
    const fresh = await Fresh.open(difference, next, { environment, committer, abortTransforms });
    try {
      await this.#changeSinks(difference.sinks.changed);
      this.hasChangedSomething = true;
      for (const name of difference.sinks.removed) {
        // One that takes nothing must not hold up the others any longer.
        const { runner } = parts.sinks.get(name)!;
        if (runner.trouble !== undefined) runner.abandon();
      }
    } catch (error) {
      await fresh.dispose();
      throw error;
    }
    try {
      await this.#rewire(difference, now, next, fresh);
    } catch (error) {
      if (!fresh.takesPart) await fresh.dispose();
      throw error;
    }
    return [...sentencesOf(difference), ...this.#changeLimits(next)];
  }

  /**
   * How far behind a sink may be. Whether it may be at all stays as it was at the start: what waits for a required sink lies
   * where others need room.
   */
  #changeLimits(next: Plan): string[] {
    const sentences: string[] = [];
    for (const { name, maxLagBytes } of next.sinks) {
      const part = this.#options.parts.sinks.get(name);
      if (part === undefined || maxLagBytes === undefined || !part.backlog.mayDrop) continue;
      if (part.backlog.limitBytes === maxLagBytes) continue;
      part.backlog.limitBytes = maxLagBytes;
      sentences.push(`${name} may now be ${maxLagBytes} bytes behind`);
    }
    return sentences;
  }

  /** One after the other; if one cannot be opened, those before get their old selves back. */
  async #changeSinks(changed: readonly PlannedSink[]): Promise<void> {
    const { parts } = this.#options;
    const done: { part: SinkPart; before: PlannedSink }[] = [];
    for (const planned of changed) {
      const part = parts.sinks.get(planned.name)!;
      const before = part.planned;
      try {
        await this.#changeSink(part, planned);
        done.push({ part, before });
      } catch (error) {
        for (const { part: earlier, before: old } of done.reverse()) await this.#changeSink(earlier, old);
        throw error;
      }
    }
  }

  async #changeSink(part: SinkPart, planned: PlannedSink): Promise<void> {
    const { environment } = this.#options;
    await part.runner.replaceSink(planned.retry, async (old) => {
      await old[Symbol.asyncDispose]();
      try {
        part.sink = await openSink(environment, planned);
        // Where its records come from changes later, with the ways.
        part.planned = { ...planned, inputs: part.planned.inputs };
        return { sink: part.sink };
      } catch (error) {
        part.sink = await openSink(environment, part.planned);
        return { sink: part.sink, error: toError(error) };
      }
    });
  }

  async #rewire(difference: PlanDifference, now: Components, next: Plan, fresh: Fresh): Promise<void> {
    const { environment, parts } = this.#options;
    const { checkpoint, groupCommit, log } = environment;
    const { sources, sinks } = difference;
    const ways = waysOf(next);
    const anew = this.#startAnew(difference, now, next, ways);

    // Those that go, and those that come back with a new face.
    const gone = new Map<string, RunningSource>();
    for (const name of [...sources.removed, ...anew]) {
      gone.set(name, parts.sources.get(name)!);
      parts.sources.delete(name);
    }
    const opening: Opening[] = [...gone.values()].map(({ planned, wires, positions }) => ({
      planned,
      wires,
      positions,
    }));
    let releases: (() => void)[] = [];
    try {
      await this.#stop(gone, anew);
      const held = heldBy([...parts.sources.values()], difference.rewired);
      releases = held.map((running) => running.hold());
      await this.#untilHeld(held);
      const between = [...held, ...gone.values()].flatMap(({ wires }) => componentsOf(wires.routes));
      const isBusy = (name: string) => parts.transforms.get(name)?.runner.isIdle === false;
      await this.#until(
        () => !between.some(isBusy),
        () => `batches on their way through ${between.filter(isBusy).join(", ")}`,
      );
      await reconcileSinks(next, checkpoint, groupCommit, log);
      await this.#startHere(held, next, ways, difference);
      await clearCleanStop(sinks.added, checkpoint, groupCommit);
      opening.splice(0, Infinity, ...this.#changeWays(difference, next, fresh, gone));
      await this.#skipBehind(opening);
      await this.#reconfigure(sources.changed.filter(({ name }) => !gone.has(name)));
    } finally {
      // Either with what they are to be, or with what they were.
      if (this.#options.signal.aborted) for (const { wires } of opening) unwire(wires.routes);
      else await this.#openSources(opening, gone);
      for (const release of releases) release();
    }
  }

  /**
   * Stops sources, once everything that they handed on is committed: who reads next (one of `anew`, or one that another
   * reload brings back) starts there. Until then a source looks for files and holds them; what it reads meanwhile is not
   * handed on, and read again.
   */
  async #stop(gone: ReadonlyMap<string, RunningSource>, anew: readonly string[]): Promise<void> {
    const running = [...gone.values()];
    const replayable = running.filter(({ planned }) => isReplayable(planned));
    let releases: (() => void)[] = [];
    try {
      // While nothing is handed on all sinks go without; so not before the one that takes nothing is back.
      const inTheWay = () => this.#sinksBehind(replayable).filter(({ trouble }) => trouble !== undefined);
      await this.#until(
        () => inTheWay().length === 0,
        () =>
          inTheWay()
            .map(({ name, trouble }) => `${name}, which takes nothing (${trouble})`)
            .join(", "),
      );
      releases = replayable.map((source) => source.hold());
      await this.#untilHeld(replayable);
      const unsettled = () => replayable.filter((source) => !this.#isCommitted(source));
      await this.#until(
        () => unsettled().length === 0,
        () =>
          `the acknowledgement of what ${unsettled()
            .map(({ name }) => name)
            .join(", ")} has read`,
      );
      await Promise.all(running.map((source) => source.stop({ discards: replayable.includes(source) })));
    } catch (error) {
      // The agent stops: what waits in them settles as ever, or is read again.
      await Promise.all(running.map((source) => source.stop()));
      throw error;
    } finally {
      for (const release of releases) release();
    }
    for (const stopped of running) {
      const { name, planned, source, positions } = stopped;
      positions.forwarded.clear();
      if (isReplayable(planned)) await source[Symbol.asyncDispose]();
      // Somebody upstream may still have to be told about what ends later.
      else if (stopped.owesNothing) await source[Symbol.asyncDispose]();
      else this.#options.start(name, this.#closeOnceTold(stopped));
      if (!anew.includes(name)) await positions.close();
    }
  }

  /** Those that these sources feed, but for one that is given up. */
  #sinksBehind(sources: readonly RunningSource[]): SinkRunner[] {
    const names = new Set(sources.flatMap(({ wires }) => wires.lanes.map(({ sink }) => sink)));
    const { sinks } = this.#options.parts;
    return [...sinks.values()]
      .map(({ runner }) => runner)
      .filter(({ name, isAbandoned }) => names.has(name) && !isAbandoned);
  }

  /** What it has handed on has ended, durably, at every sink that is not given up. */
  #isCommitted(source: RunningSource): boolean {
    const { checkpoint } = this.#options.environment;
    const sinks = new Set(this.#sinksBehind([source]).map(({ name }) => name));
    const lanes = source.wires.lanes.filter(({ sink }) => sinks.has(sink));
    return [...source.positions.forwarded].every(([file, end]) =>
      lanes.every(({ id }) => (checkpoint.position(id, source.name, file)?.prefix ?? 0) >= end),
    );
  }

  async #untilHeld(held: readonly RunningSource[]): Promise<void> {
    await this.#until(
      () => held.every((running) => !running.isForwarding),
      () => {
        const names = held.filter(({ isForwarding }) => isForwarding).map(({ name }) => name);
        return `room behind ${names.join(", ")}`;
      },
    );
  }

  /** A source that begins anew reads nothing again for a sink that is not required and too far behind. */
  async #skipBehind(opening: readonly Opening[]): Promise<void> {
    const { environment, committer, parts, signal } = this.#options;
    const { checkpoint, events } = environment;
    for (const { lanes } of opening.map(({ wires }) => wires)) {
      for (const { runner, backlog } of parts.sinks.values()) {
        const own = lanes.filter(({ sink }) => sink === runner.name);
        const sink = { lanes: own, limitBytes: backlog.limitBytes };
        skipAtStart(sink, lanes, { checkpoint, events: events(runner.name) });
        if (backlog.mayDrop && runner.isDirty) await committer.commitNow(runner, signal);
      }
    }
  }

  async #reconfigure(changed: readonly PlannedSource[]): Promise<void> {
    for (const planned of changed) {
      const running = this.#options.parts.sources.get(planned.name)!;
      await planned.definition.reconfigure!(running.source, planned.options);
      running.planned = planned;
    }
  }

  /** The instant of the change: no record is between two stages of a source whose ways change. */
  #changeWays(
    difference: PlanDifference,
    next: Plan,
    fresh: Fresh,
    gone: ReadonlyMap<string, RunningSource>,
  ): Opening[] {
    const { environment, committer, parts } = this.#options;
    const [ways, graph] = [waysOf(next), graphOf(next)];
    const before = [...parts.sources.values(), ...gone.values()].map(({ wires }) => wires);
    const inputOf = (component: string) => {
      const backlog = (fresh.sinkParts.get(component) ?? parts.sinks.get(component))?.backlog;
      const added = fresh.sinkParts.get(component) ?? fresh.transformParts.get(component);
      if (added !== undefined) return { ...added.input, backlog };
      const { input } = (parts.sinks.get(component) ?? parts.transforms.get(component))!;
      const [route] = before.flatMap(({ routes }) => routesInto(component, routes));
      return { sender: route!.input, size: input.size, backlog };
    };
    const opening: Opening[] = [];
    const unused = [...gone.values()].map(({ wires }) => wires);
    for (const planned of next.sources) {
      const { name } = planned;
      const running = parts.sources.get(name);
      if (running !== undefined && !difference.rewired.includes(name)) continue;
      const { checkpoint, groupCommit } = environment;
      const positions =
        (running ?? gone.get(name))?.positions ?? new PipelineSourcePositions(name, checkpoint, groupCommit);
      const wires = wire({
        source: graph.get(name)!,
        ways,
        inputOf,
        laneOf: (lane) => {
          const kept = running?.wires.lanes.find(({ id }) => id === lane.id);
          if (kept !== undefined) {
            kept.way = lane.way;
            return kept;
          }
          const part = (fresh.sinkParts.get(lane.sink) ?? parts.sinks.get(lane.sink))!;
          return newLane(environment, committer, positions, { source: name, ...lane }, part);
        },
      });
      positions.feeds(wires.lanes);
      if (running === undefined) opening.push({ planned, wires, positions });
      else {
        unused.push(running.wires);
        running.wires = wires;
      }
    }
    this.#join(
      fresh,
      next,
      difference.transforms,
      [...parts.sources.values(), ...opening].map(({ wires }) => wires),
    );
    this.#part(difference);
    for (const { routes } of unused) unwire(routes);
    for (const { input } of [...fresh.sinkParts.values(), ...fresh.transformParts.values()]) input.sender.close();
    return opening;
  }

  /** Which of the sources that stay are opened again. */
  #startAnew({ sources, rewired }: PlanDifference, now: Components, next: Plan, ways: Ways): string[] {
    const { checkpoint } = this.#options.environment;
    const waysNow = waysOf(now);
    const names = new Set(sources.changed.filter(startsAnew).map(({ name }) => name));
    for (const source of rewired) {
      for (const { name, backfill } of next.sinks) {
        const after = ways.get(name)!.get(source);
        if (after === undefined) continue;
        const before = waysNow.get(name)?.get(source);
        const hasOther = before !== undefined && before.length + after.length > 2 && before.join() !== after.join();
        const wasHere = before === undefined && hasPositions(checkpoint, name, source);
        if (hasOther || wasHere || (before === undefined && backfill)) names.add(source);
      }
    }
    return [...names];
  }

  /** A sink that is new to a running source gets what comes from now on. */
  async #startHere(held: readonly RunningSource[], next: Plan, ways: Ways, { rewired }: PlanDifference): Promise<void> {
    const { checkpoint, groupCommit } = this.#options.environment;
    const changes: Parameters<typeof groupCommit.submit>[0][number][] = [];
    for (const { name: source, wires, positions } of held) {
      if (!rewired.includes(source)) continue;
      for (const { name: sink } of next.sinks) {
        const known = wires.lanes.some((lane) => lane.sink === sink);
        const all = ways.get(sink)!.get(source);
        if (known || all === undefined) continue;
        const files = new Set([...checkpoint.filesWithPositions(source), ...positions.forwarded.keys()]);
        for (const file of files) {
          const prefix = positions.forwarded.get(file) ?? positions.committedOf(file);
          for (const way of all) {
            changes.push({
              table: "position",
              sink: laneId(sink, way, all),
              source,
              file,
              value: { prefix, ranges: [] },
            });
          }
        }
      }
    }
    if (changes.length > 0) await groupCommit.submit(changes);
  }

  /** What is new takes part, and everybody learns of the new ways. */
  #join(fresh: Fresh, next: Plan, { changed }: PlanDifference["transforms"], wires: readonly Wires[]): void {
    const { committer, parts, start } = this.#options;
    fresh.takesPart = true;
    for (const planned of changed) {
      const part = parts.transforms.get(planned.name)!;
      part.transform = fresh.transforms.get(planned)!;
      start(planned.name, part.runner.replace(part.transform));
    }
    for (const planned of next.sinks) {
      const part = parts.sinks.get(planned.name);
      if (part !== undefined) part.planned = planned;
    }
    for (const planned of next.transforms) {
      const part = parts.transforms.get(planned.name);
      if (part !== undefined) part.planned = planned;
    }
    for (const [name, part] of fresh.transformParts) parts.transforms.set(name, part);
    for (const [name, part] of fresh.sinkParts) {
      parts.sinks.set(name, part);
      committer.add(part.runner);
    }
    // Of other sources, what the old ways still carry is told upstream as it ends.
    const settled = new Set(next.sources.filter(isReplayable).map(({ name }) => name));
    for (const { runner } of parts.sinks.values()) {
      const lanes = wires.flatMap((each) => each.lanes.filter(({ sink }) => sink === runner.name));
      // A lane that nothing new comes on may still have endings to commit.
      const isReplaced = (old: Lane) =>
        settled.has(old.source) && lanes.some(({ id, source }) => id === old.id && source === old.source);
      const mayEnd = (old: Lane) => old.isDirty || !runner.isIdle;
      runner.setLanes([...lanes, ...runner.lanes.filter((lane) => !isReplaced(lane) && mayEnd(lane))]);
    }
    for (const { runner } of parts.transforms.values())
      runner.routes = wires.flatMap(({ routes }) => routesInto(runner.name, routes));
    for (const { runner } of fresh.transformParts.values()) start(runner.name, runner.run());
    for (const { runner } of fresh.sinkParts.values())
      start(
        runner.name,
        runner.recover().then(() => runner.run()),
      );
  }

  /** What is no longer wanted drains, commits and closes, in its own time. */
  #part({ transforms, sinks }: PlanDifference): void {
    const { parts, start, environment } = this.#options;
    for (const name of transforms.removed) {
      const { runner } = parts.transforms.get(name)!;
      parts.transforms.delete(name);
      start(name, this.#closeTransform(runner));
    }
    for (const name of sinks.removed) {
      const part = parts.sinks.get(name)!;
      parts.sinks.delete(name);
      start(
        name,
        this.#close(part).catch((error: unknown) => {
          environment.log.warn({ component: name, error: toError(error).message }, `${name} did not close cleanly`);
        }),
      );
    }
  }

  async #closeOnceTold(stopped: RunningSource): Promise<void> {
    const { environment, signal, retire } = this.#options;
    // With the agent the last is told after its last commit, which waits for this.
    while (!stopped.owesNothing && !signal.aborted) await environment.clock.sleep(SETTLE_LOOK_MS);
    if (stopped.owesNothing) await stopped.source[Symbol.asyncDispose]();
    else retire(stopped.source);
  }

  /** What is in its input still goes through it. */
  async #closeTransform(runner: TransformRunner): Promise<void> {
    while (!runner.hasEnded) await this.#options.environment.clock.sleep(LOOK_MS);
    await runner.close();
  }

  async #close({ planned, runner, sink }: SinkPart): Promise<void> {
    const { committer, environment, signal } = this.#options;
    const { clock, groupCommit } = environment;
    const limitMs = clock.monotonic() + environment.plan.shutdown.gracefulTimeoutMs;
    while (!runner.hasEnded && !signal.aborted && clock.monotonic() < limitMs) await clock.sleep(LOOK_MS);
    if (!runner.hasEnded) runner.abandon();
    while (!runner.hasEnded) await clock.sleep(LOOK_MS);
    await committer.settle(runner, signal);
    if (!runner.isDirty) await saveCleanStop([planned], groupCommit);
    committer.remove(runner);
    await sink[Symbol.asyncDispose]();
  }

  /** @throws the first error; who was there before runs again as it was then. */
  async #openSources(opening: readonly Opening[], gone: ReadonlyMap<string, RunningSource>): Promise<void> {
    const { environment } = this.#options;
    const failed: unknown[] = [];
    for (const each of opening) {
      const before = gone.get(each.planned.name);
      try {
        this.#run(each, await openSource(environment, each.planned, each.positions), before);
      } catch (error) {
        failed.push(error);
        const source = before === undefined ? undefined : await this.#reopen(before, each.positions);
        if (source === undefined) unwire(each.wires.routes);
        else this.#run({ ...each, planned: before!.planned }, source, before);
      }
    }
    if (failed.length > 0) throw failed[0];
  }

  /** As it was before; undefined where even that does not work any more: a supervised failure. */
  async #reopen({ planned }: RunningSource, positions: PipelineSourcePositions): Promise<Source | undefined> {
    const { environment } = this.#options;
    try {
      return await openSource(environment, planned, positions);
    } catch (error) {
      environment.onFailure(toError(error), planned.name);
      return undefined;
    }
  }

  #run(opening: Opening, source: Source, before: RunningSource | undefined): void {
    const { environment, committer, parts, startSource } = this.#options;
    // Not the predecessor itself: it would live as long as its successors.
    const counts = before === undefined ? {} : { before: { records: before.records, bytes: before.bytes } };
    const running = new RunningSource({ ...opening, source, committer, log: environment.log, ...counts });
    parts.sources.set(running.name, running);
    startSource(running);
  }

  async #until(isDone: () => boolean, waitsFor: () => string): Promise<void> {
    const { environment, signal } = this.#options;
    const { clock, log } = environment;
    let saidAtMs = clock.monotonic();
    while (!isDone()) {
      if (signal.aborted) throw new Error("the agent stops; the new configuration takes effect at the next start");
      await clock.sleep(LOOK_MS);
      if (clock.monotonic() - saidAtMs < SAY_MS) continue;
      saidAtMs = clock.monotonic();
      log.warn({}, `the reload waits for ${waitsFor()}`);
    }
  }
}

interface Opening {
  readonly planned: PlannedSource;
  readonly wires: Wires;
  readonly positions: PipelineSourcePositions;
}

function runningComponents(parts: Parts): Components {
  return {
    sources: [...parts.sources.values()].map(({ planned }) => planned),
    transforms: [...parts.transforms.values()].map(({ planned }) => planned),
    sinks: [...parts.sinks.values()].map(({ planned }) => planned),
  };
}

/** All that such a source handed on is committed before another takes its place. */
function isReplayable({ definition }: PlannedSource): boolean {
  return definition.replay === "replayable";
}

/** It cannot go on with other options. */
function startsAnew({ definition }: PlannedSource): boolean {
  return definition.reconfigure === undefined;
}

function hasPositions(checkpoint: PipelineEnvironment["checkpoint"], sink: string, source: string): boolean {
  return checkpoint
    .state()
    .positions.some((row) => row.source === source && (row.sink === sink || row.sink.startsWith(`${sink}#`)));
}

function componentsOf(routes: readonly Route[]): string[] {
  return routes.flatMap((route) => [route.component, ...componentsOf(route.next)]);
}

/** The sources to hold: those whose ways change, and all that meet them in a transform. */
function heldBy(running: readonly RunningSource[], rewired: readonly string[]): RunningSource[] {
  const held = new Set(running.filter(({ name }) => rewired.includes(name)));
  const shared = (source: RunningSource) => new Set(componentsOf(source.wires.routes));
  for (let grown = -1; grown !== held.size; ) {
    grown = held.size;
    const reached = new Set([...held].flatMap((source) => [...shared(source)]));
    for (const source of running) if ([...shared(source)].some((name) => reached.has(name))) held.add(source);
  }
  return [...held];
}

function sentencesOf({ sources, transforms, sinks, rewired }: PlanDifference): string[] {
  const sentences: string[] = [];
  for (const { added, changed, removed } of [sources, transforms, sinks]) {
    sentences.push(...added.map(({ name }) => `${name} is new`));
    sentences.push(...changed.map(({ name }) => `${name} has changed`));
    sentences.push(...removed.map((name) => `${name} is gone`));
  }
  sentences.push(...rewired.map((name) => `${name} goes other ways`));
  return sentences;
}
