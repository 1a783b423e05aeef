import type { Worker } from "node:worker_threads";
import { toError } from "../errors.ts";
import type { Made } from "../pipeline/threaded-transform.ts";
import type { Batch } from "../record/index.ts";
import { startThreadProgram } from "../runtime/thread-program.ts";
import type { Answer, Job, ThreadData } from "./messages.ts";

/** What a job's lines are copied into; larger ones get memory of their own. */
const JOB_BYTES = 320 * 1024;

/** Spare memory for answers that is kept, for each thread. */
const SPARES_PER_THREAD = 2;

/** MiB of the young generation of a thread: its events die within a job. */
const YOUNG_MIB = 16;

interface Waiting {
  resolve(made: Made): void;
  reject(error: Error): void;
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiting>;
}

/**
 * Threads that all do the same work. A job goes to the one that has fewest; its lines are copied into memory that goes
 * there and comes back, so that nothing is shared. A thread that ends by itself fails what it had, and all that comes after.
 */
export class Threads implements AsyncDisposable {
  readonly #threads: readonly Thread[];
  readonly #jobMemory: ArrayBuffer[] = [];
  readonly #spares: ArrayBuffer[] = [];
  #nextId = 0;
  #failure: Error | undefined;

  constructor(count: number, data: ThreadData) {
    this.#threads = Array.from({ length: count }, () => this.#start(data));
  }

  get count(): number {
    return this.#threads.length;
  }

  apply(batch: Batch): Promise<Made> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const lines = batch.lines!;
    const { bytes, count, offset, delimiterBytes, readAtMs, encoding } = lines;
    const memory = bytes.length > JOB_BYTES ? new ArrayBuffer(bytes.length) : this.#memoryForJob();
    bytes.copy(Buffer.from(memory));
    const spare = this.#spares.pop();
    const job: Job = {
      id: this.#nextId++,
      memory,
      length: bytes.length,
      ends: lines.ends.slice(0, count),
      offset,
      delimiterBytes,
      readAtMs,
      encoding,
      source: batch.origin.source,
      file: batch.origin.file,
      spare,
    };
    const { worker, waiting } = this.#threads.reduce((least, next) =>
      next.waiting.size < least.waiting.size ? next : least,
    );
    return new Promise((resolve, reject) => {
      waiting.set(job.id, { resolve, reject });
      worker.postMessage(job, spare === undefined ? [memory] : [memory, spare]);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#failure ??= new Error("its threads were closed");
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #memoryForJob(): ArrayBuffer {
    return this.#jobMemory.pop() ?? new ArrayBuffer(JOB_BYTES);
  }

  #start(data: ThreadData): Thread {
    const worker = startThreadProgram("transform-threads/thread", {
      workerData: data,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB },
    });
    const thread: Thread = { worker, waiting: new Map() };
    worker.on("message", (answer: Answer) => this.#hear(thread, answer));
    worker.once("error", (error) => this.#failed(`one of its threads failed: ${toError(error).message}`));
    worker.once("exit", (code) => this.#failed(`one of its threads ended with code ${code}`));
    return thread;
  }

  #hear({ waiting }: Thread, answer: Answer): void {
    const { resolve, reject } = waiting.get(answer.id)!;
    waiting.delete(answer.id);
    if (answer.kind === "failed") {
      reject(new Error(answer.reason));
      return;
    }
    const { json, memory, length, indexes, splits, rejected } = answer;
    if (memory.byteLength === JOB_BYTES) this.#jobMemory.push(memory);
    resolve({
      json: Buffer.from(json, 0, length),
      indexes,
      splits,
      rejected,
      release: () => {
        if (this.#spares.length < this.#threads.length * SPARES_PER_THREAD) this.#spares.push(json);
      },
    });
  }

  #failed(reason: string): void {
    this.#failure ??= new Error(reason);
    for (const { waiting } of this.#threads) {
      for (const { reject } of waiting.values()) reject(this.#failure);
      waiting.clear();
    }
  }
}
