import { z } from "zod";
import { encodeBatch } from "../codec/encode.ts";
import { StageError, toError } from "../errors.ts";
import type { Batch } from "../record/index.ts";
import {
  checkTls,
  defineSink,
  delivered,
  encoding,
  type Outcome,
  retry,
  retryOptions,
  type Sink,
  type StageContext,
  timeoutMs,
  tlsConnection,
  tlsFields,
  tlsMistakes,
} from "../stage/index.ts";
import { TcpConnection, type TcpTarget } from "./tcp/connection.ts";

/** Batches in `send` at once, all on one connection; of one file there is never more than one. */
const CONCURRENCY = 8;

const options = z.strictObject({
  address: z.string().superRefine(checkAddress).describe('Where to connect: "host:port", "[::1]:port".'),
  encoding: encoding(),
  tls: z
    .strictObject({ enabled: z.boolean().default(false).describe("Encrypt the connection."), ...tlsFields })
    .superRefine(checkTls)
    .superRefine(checkEnabled)
    .prefault({}),
  timeout_ms: timeoutMs().describe(
    "Longest wait for a connection, TLS included, milliseconds. A receiver that does not read is waited for without end.",
  ),
  retry: retryOptions(),
});

/**
 * Sends lines over one TCP connection, each batch whole before the next one; made again when it breaks.
 *
 * At least once, as far as TCP can tell: `delivered` means that the kernel of the receiver's machine has acknowledged
 * every byte of the batch (on Linux; elsewhere, that our own kernel took it) and that the connection was still well
 * afterwards. A batch that is under way when the connection breaks is sent again, whole, on the next connection: the
 * receiver sees it twice, or first a part of it that ends in the middle of a line. What no sender can know is whether the
 * receiving program has read what its kernel acknowledged: if that program dies, or its machine, the lines in its
 * receive buffer (some hundred KiB, up to a few MiB) are gone. Where that matters use a target that answers, such as
 * `http`.
 *
 * A receiver that does not read fills the buffers and then stalls the pipeline; nothing is dropped or sent twice for it.
 * One that closes its side is taken to be gone, although TCP lets it go on reading.
 */
export const tcp = defineSink({
  type: "tcp",
  summary: "Sends lines over a TCP connection, with or without TLS.",
  options,
  guarantee: "at_least_once",
  concurrency: CONCURRENCY,
  target: ({ address }) => address,
  check: ({ tls }) => tlsMistakes(tls),
  async open(checked, context) {
    return new TcpSink(await targetOf(checked, context), context);
  },
  async probe(checked, context) {
    const target = await targetOf(checked, context);
    try {
      const connection = await TcpConnection.open(target, context.clock, new AbortController().signal);
      await connection.close();
    } catch (thrown) {
      const { message } = toError(thrown);
      throw new StageError("TR_STAGE_OPEN", context.name, `${checked.address} is not reachable: ${message}`);
    }
  },
});

type TcpOptions = z.infer<typeof options>;

class TcpSink implements Sink {
  readonly #target: TcpTarget;
  readonly #context: StageContext;
  readonly #encoding: TcpOptions["encoding"];
  #connection: TcpConnection | undefined;
  #connecting: Promise<TcpConnection> | undefined;
  readonly #stop = new AbortController();

  constructor(target: TcpTarget & Pick<TcpOptions, "encoding">, context: StageContext) {
    this.#target = target;
    this.#encoding = target.encoding;
    this.#context = context;
  }

  async write(batch: Batch, { signal }: { signal: AbortSignal }): Promise<Outcome> {
    const parts = encodeBatch(batch, this.#encoding).filter(({ length }) => length > 0);
    if (parts.length === 0) return delivered();
    let connection: TcpConnection;
    try {
      connection = await orAborted(this.#connected(), signal);
    } catch (thrown) {
      return retry(toError(thrown).message);
    }
    const failure = await connection.send(parts, signal);
    return failure === undefined ? delivered() : retry(failure, { isOutcomeUnknown: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#connecting?.catch(() => {});
    await this.#connection?.close();
  }

  /** The connection if it is well, else a new one; all who wait for one get the same. */
  #connected(): Promise<TcpConnection> {
    if (this.#connection?.failure === undefined && this.#connection !== undefined)
      return Promise.resolve(this.#connection);
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #connect(): Promise<TcpConnection> {
    const old = this.#connection;
    this.#connection = undefined;
    await old?.close();
    this.#connection = await TcpConnection.open(this.#target, this.#context.clock, this.#stop.signal);
    return this.#connection;
  }
}

/** Whatever comes first; an abort rejects. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(new Error("given up"));
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

async function targetOf(checked: TcpOptions, context: StageContext): Promise<TcpTarget & Pick<TcpOptions, "encoding">> {
  const { host, port } = parseAddress(checked.address)!;
  const tls = checked.tls.enabled ? await tlsConnection(checked.tls, context) : undefined;
  return { host, port, tls, timeoutMs: checked.timeout_ms, encoding: checked.encoding };
}

/** `host:port` or `[address]:port`; undefined where it is neither. */
export function parseAddress(text: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[([^[\]\s]+)\]|([^:\s/@[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2];
  return host !== undefined && port >= 1 && port <= 65535 ? { host, port } : undefined;
}

function checkAddress(text: string, context: z.RefinementCtx): void {
  if (parseAddress(text) !== undefined) return;
  const message =
    'this is no address; give "host:port" with a port from 1 to 65535, and an IPv6 address in brackets: "[::1]:9000"';
  context.addIssue({ code: "custom", message });
}

/** Files for a connection that is not encrypted are a mistake that would go unnoticed. */
function checkEnabled(
  tls: { enabled: boolean; ca?: string | undefined; cert?: string | undefined },
  context: z.RefinementCtx,
): void {
  if (tls.enabled || (tls.ca === undefined && tls.cert === undefined)) return;
  context.addIssue({
    code: "custom",
    path: ["enabled"],
    message: "tls has certificates but is not enabled; set enabled = true",
  });
}
