import type { Json } from "../checkpoint/checkpoint-store.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { Marks, SinkContext } from "../stage/index.ts";
import {
  type ClosedOutput,
  closedMarkName,
  closedOutputsOf,
  type OutputMark,
  outputMarkName,
  outputMarksOf,
  type RotationIntent,
  rotationIntentsOf,
  rotationMarkName,
  toJson,
} from "./output-mark.ts";

/** At most so many outputs are remembered; beyond it those that were not written for longest are forgotten. */
const MAX_REMEMBERED = 10_000;

/** Changes of the marks of one output; null removes one, what is left out stays. */
export interface MarkChange {
  readonly output?: OutputMark | null;
  readonly intent?: RotationIntent | null;
  readonly closed?: readonly ClosedOutput[];
  /** Marks of somebody else, in the same commit. */
  readonly also?: Marks;
}

/** The sink's marks as they are committed: the store is written first, this view second. */
export class OutputMarks {
  readonly outputs: Map<BytePath, OutputMark>;
  readonly intents: Map<BytePath, RotationIntent>;
  readonly closed: Map<BytePath, readonly ClosedOutput[]>;
  readonly #save: (marks: Marks) => Promise<void>;

  constructor(context: Pick<SinkContext, "marks" | "saveMarks">) {
    this.outputs = outputMarksOf(context.marks);
    this.intents = rotationIntentsOf(context.marks);
    this.closed = closedOutputsOf(context.marks);
    this.#save = (marks) => context.saveMarks(marks);
  }

  /** Resolves when the change is durable. */
  async save(path: BytePath, change: MarkChange): Promise<void> {
    const marks: { [name: string]: Json | undefined } = {};
    if (change.output !== undefined)
      marks[outputMarkName(path)] = change.output === null ? undefined : toJson(change.output);
    if (change.intent !== undefined)
      marks[rotationMarkName(path)] = change.intent === null ? undefined : toJson(change.intent);
    if (change.closed !== undefined)
      marks[closedMarkName(path)] = change.closed.length === 0 ? undefined : toJson(change.closed);
    await this.#save({ ...marks, ...change.also });
    if (change.output !== undefined) put(this.outputs, path, change.output ?? undefined);
    if (change.intent !== undefined) put(this.intents, path, change.intent ?? undefined);
    if (change.closed !== undefined) put(this.closed, path, change.closed.length === 0 ? undefined : change.closed);
  }

  /** A barrier's commit has made this mark durable. */
  committed(path: BytePath, mark: OutputMark): void {
    put(this.outputs, path, mark);
  }

  /** Forgets outputs for good; resolves when that is durable. */
  async forget(paths: readonly BytePath[]): Promise<void> {
    if (paths.length === 0) return;
    await this.#save(
      Object.fromEntries(
        paths.flatMap((path) => [outputMarkName(path), closedMarkName(path)].map((name) => [name, undefined])),
      ),
    );
    for (const path of paths) {
      this.outputs.delete(path);
      this.closed.delete(path);
    }
  }

  /** Outputs that are too many to remember: `isOpen` ones are spared, the others go, longest unwritten first. */
  tooMany(isOpen: (path: BytePath) => boolean): BytePath[] {
    const excess = this.outputs.size - MAX_REMEMBERED;
    if (excess <= 0) return [];
    return [...this.outputs]
      .filter(([path]) => !isOpen(path) && !this.intents.has(path))
      .sort(([, one], [, other]) => one.writtenAtMs - other.writtenAtMs)
      .slice(0, excess + MAX_REMEMBERED / 10)
      .map(([path]) => path);
  }
}

function put<Value>(map: Map<BytePath, Value>, path: BytePath, value: Value | undefined): void {
  if (value === undefined) map.delete(path);
  else map.set(path, value);
}
