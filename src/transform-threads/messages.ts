/** What a thread is handed at its start. */
export interface ThreadData {
  /** One behind the other; `options` as the transform's schema left them: plain data. */
  readonly stages: readonly { readonly name: string; readonly type: string; readonly options: unknown }[];
  readonly host: string;
  readonly stateDir: string;
}

/** A batch of whole lines. */
export interface Job {
  readonly id: number;
  /** Goes over to the thread, and comes back with the answer. */
  readonly memory: ArrayBuffer;
  /** Bytes of it that are lines. */
  readonly length: number;
  readonly ends: Uint32Array;
  /** Where the lines lie in their source, and all else that an event says. */
  readonly offset: number;
  readonly delimiterBytes: number;
  readonly readAtMs: number;
  readonly encoding: string;
  readonly source: string;
  readonly file: string | undefined;
  /** Memory of an earlier answer, for the next one; goes over too. */
  readonly spare: ArrayBuffer | undefined;
}

export type Answer =
  | {
      readonly kind: "made";
      readonly id: number;
      /** The job's, to be used again. */
      readonly memory: ArrayBuffer;
      /** Bytes of it that are events, a line of JSON each. */
      readonly json: ArrayBuffer;
      readonly length: number;
      readonly indexes: Uint32Array;
      readonly splits: Float64Array;
      readonly rejected: readonly { readonly index: number; readonly reason: string }[];
    }
  /** A transform has failed, which none should: the pipeline is told, and ends. */
  | { readonly kind: "failed"; readonly id: number; readonly reason: string };
