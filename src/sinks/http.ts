import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { Agent, Dispatcher } from "undici";
import { z } from "zod";
import { encodeBatch } from "../codec/encode.ts";
import { StageError, toError } from "../errors.ts";
import type { Batch, DataRecord, Lines } from "../record/index.ts";
import { describeConnectionError } from "../runtime/connection-error.ts";
import {
  checkTls,
  defineSink,
  delivered,
  encoding,
  type Outcome,
  rejected,
  retry,
  retryOptions,
  type Sink,
  type StageContext,
  secret,
  timeoutMs,
  tlsConnection,
  tlsFields,
  tlsMistakes,
} from "../stage/index.ts";
import { retryAfterMs, verdictOf } from "./http/answers.ts";

/** Requests under way at once; of one file there is never more than one. */
const CONCURRENCY = 8;

const options = z
  .strictObject({
    url: z
      .string()
      .superRefine(checkUrl)
      .describe("Where to send to, http or https; user info in it becomes basic authorization."),
    method: z.enum(["POST", "PUT", "PATCH"]).default("POST").describe("Method of the request."),
    encoding: encoding(),
    compression: z.enum(["none", "gzip"]).default("none").describe("Compression of the body."),
    headers: z.record(z.string(), secret()).default({}).describe("Further headers; their values are shown nowhere."),
    tls: z.strictObject(tlsFields).superRefine(checkTls).prefault({}),
    timeout_ms: timeoutMs(),
    retry: retryOptions(),
  })
  .superRefine(checkHeaders);

/**
 * Sends each batch as the body of one request: newline-delimited events (`encoding = "json"`), messages or raw lines. It
 * is as large as what the source read at once (`max_batch_bytes`), and never two batches together: a request is about
 * one file, and an answer is about one batch.
 *
 * At least once: a 2xx answer is the acknowledgement. When the answer was lost, the batch is sent again, with the same
 * `Idempotency-Key`, and ids of its first and last record in `Tailrace-First-Record-Id` and `Tailrace-Last-Record-Id`;
 * after a restart records may be cut into other batches, then only the ids of the records (file, `offset`) say which
 * came before. Which answer means what is the table in `http/answers.ts`: what is about the records is rejected and
 * bisected, what may pass, or is about the configuration, is sent again without end. Redirects are not followed.
 */
export const http = defineSink({
  type: "http",
  summary: "Sends batches to a URL, one request each; an answer of 2xx is the acknowledgement.",
  options,
  guarantee: "at_least_once",
  concurrency: CONCURRENCY,
  target: ({ url }) => withoutUserInfo(url),
  check: async ({ url, tls }) => (isHttps(url) ? tlsMistakes(tls) : []),
  async open(checked, context) {
    return new HttpSink(checked, context, await agentOf(checked, context));
  },
  async probe(checked, context) {
    const agent = await agentOf(checked, context);
    const limit = new Limit(checked.timeout_ms, new AbortController().signal, context);
    try {
      const { url, headers } = requestParts(checked);
      const answer = await agent.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method: "OPTIONS",
        headers,
        signal: limit.signal,
      });
      await answer.body.dump();
      // 501: it does not know OPTIONS, so it is there.
      if (answer.statusCode >= 500 && answer.statusCode !== 501) {
        throw new Error(`it answers ${answer.statusCode}`);
      }
    } catch (thrown) {
      const reason = limit.isOver
        ? `no answer within ${checked.timeout_ms} ms`
        : describeConnectionError(toError(thrown));
      throw new StageError(
        "TR_STAGE_OPEN",
        context.name,
        `${withoutUserInfo(checked.url)} is not reachable: ${redactor(checked)(reason)}`,
      );
    } finally {
      limit.done();
      await agent.destroy();
    }
  },
});

type HttpOptions = z.infer<typeof options>;

class HttpSink implements Sink {
  readonly #options: HttpOptions;
  readonly #context: StageContext;
  readonly #agent: Agent;
  readonly #url: URL;
  readonly #headers: { readonly [name: string]: string };
  readonly #redact: (text: string) => string;
  /** The last misconfiguration that was told, so that it is told once and not with every attempt. */
  #told: string | undefined;

  constructor(checked: HttpOptions, context: StageContext, agent: Agent) {
    this.#options = checked;
    this.#context = context;
    this.#agent = agent;
    const { url, headers } = requestParts(checked);
    this.#url = url;
    this.#headers = { ...bodyHeaders(checked), ...headers };
    this.#redact = redactor(checked);
  }

  async write(batch: Batch, { signal }: { signal: AbortSignal }): Promise<Outcome> {
    // A copy: when we give up, the batch's memory may be reused while the socket still holds on to the body.
    const plain = Buffer.concat(encodeBatch(batch, this.#options.encoding));
    if (plain.length === 0) return delivered();
    const body = this.#options.compression === "gzip" ? await compress(plain) : plain;
    const limit = new Limit(this.#options.timeout_ms, signal, this.#context);
    try {
      const answer = await this.#agent.request({
        origin: this.#url.origin,
        path: this.#url.pathname + this.#url.search,
        method: this.#options.method,
        headers: { ...this.#headers, ...batchHeaders(batch) },
        body,
        signal: limit.signal,
      });
      return await this.#outcome(answer);
    } catch (thrown) {
      const reason = limit.isOver
        ? `no answer within ${this.#options.timeout_ms} ms`
        : describeConnectionError(toError(thrown));
      return retry(this.#redact(reason), { isOutcomeUnknown: true });
    } finally {
      limit.done();
    }
  }

  async #outcome(answer: Dispatcher.ResponseData): Promise<Outcome> {
    const { statusCode, headers } = answer;
    const { verdict, why } = verdictOf(statusCode);
    if (verdict === "delivered") {
      // Taken is taken: a body that breaks off behind the status changes nothing.
      await answer.body.dump({ limit: MAX_ANSWER_BYTES }).catch(() => {});
      this.#told = undefined;
      return delivered();
    }
    const said = await startOf(answer.body);
    const reason = this.#redact(`the answer was ${statusCode}, ${why}${said === "" ? "" : `: ${said}`}`);
    if (verdict === "rejected") return rejected(reason);
    if (verdict === "misconfigured") this.#tell(reason);
    const afterMs = retryAfterMs(first(headers["retry-after"]), this.#context.clock);
    return retry(reason, afterMs === undefined ? {} : { afterMs });
  }

  #tell(reason: string): void {
    if (this.#told === reason) return;
    this.#told = reason;
    const { log, name } = this.#context;
    log.error(
      { component: name },
      `${name}: ${reason}; nothing is lost, it is sent again until the configuration is mended`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }
}

const compress = promisify(gzip);

/** Of an answer that nobody asked for in full. */
const MAX_ANSWER_BYTES = 65_536;
const SHOWN_CHARACTERS = 200;

/** Ends a request when its time is over or the pipeline gives up, by the clock that we were handed. */
class Limit {
  readonly #abort = new AbortController();
  readonly #timer: { cancel(): void };
  readonly #outer: AbortSignal;
  readonly #onOuter = () => this.#abort.abort(this.#outer.reason);
  isOver = false;

  constructor(ms: number, outer: AbortSignal, { clock }: StageContext) {
    this.#outer = outer;
    if (outer.aborted) this.#onOuter();
    outer.addEventListener("abort", this.#onOuter, { once: true });
    this.#timer = clock.after(ms, () => {
      this.isOver = true;
      this.#abort.abort();
    });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  done(): void {
    this.#timer.cancel();
    this.#outer.removeEventListener("abort", this.#onOuter);
  }
}

const isHttps = (url: string): boolean => new URL(url).protocol === "https:";

async function agentOf(checked: HttpOptions, context: StageContext): Promise<Agent> {
  const tls = isHttps(checked.url) ? await tlsConnection(checked.tls, context) : {};
  // 7 MiB resident, which only those who send pay.
  const { Agent } = await import("undici");
  return new Agent({
    connections: CONCURRENCY,
    pipelining: 1,
    // Ours is the limit that counts; these would only say the same in other words.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: { ...tls, timeout: checked.timeout_ms },
  });
}

function requestParts(checked: HttpOptions): { url: URL; headers: { [name: string]: string } } {
  const url = new URL(checked.url);
  const headers: { [name: string]: string } = {};
  if (url.username !== "" || url.password !== "") {
    const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
    headers["authorization"] = `Basic ${Buffer.from(credentials).toString("base64")}`;
  }
  for (const [name, value] of Object.entries(checked.headers)) headers[name.toLowerCase()] = value;
  return { url, headers };
}

function bodyHeaders({ encoding: of, compression }: HttpOptions): { [name: string]: string } {
  const type = { json: "application/x-ndjson", text: "text/plain; charset=utf-8", raw: "application/octet-stream" }[of];
  return {
    "content-type": type,
    "user-agent": "tailrace",
    ...(compression === "gzip" ? { "content-encoding": "gzip" } : {}),
  };
}

function batchHeaders(batch: Batch): { [name: string]: string } {
  const [head, tail, what] = batch.lines === undefined ? idsOfRecords(batch.records) : idsOfLines(batch, batch.lines);
  return {
    "idempotency-key": headerText(`${head}+${batch.count}-${what}`),
    "tailrace-first-record-id": headerText(head),
    "tailrace-last-record-id": headerText(tail),
    "tailrace-record-count": String(batch.count),
  };
}

/** First id, last id, and what tells the batch from any other that starts alike: for lines, where they end. */
function idsOfLines({ origin }: Batch, lines: Lines): [string, string, string] {
  const id = (index: number) => `${origin.recordIdPrefix}:${lines.startOf(index)}`;
  return [id(0), id(lines.count - 1), String(lines.offset + lines.bytes.length)];
}

function idsOfRecords(records: readonly DataRecord[]): [string, string, string] {
  return [records[0]!.id, records.at(-1)!.id, hashOf(records.map(({ id }) => id))];
}

function hashOf(ids: readonly string[]): string {
  return createHash("sha256").update(ids.join("\n")).digest("hex").slice(0, 16);
}

/** Ids of other people's sources may hold anything; a header may not (RFC 9110, section 5.5). */
function headerText(text: string): string {
  return text.replace(/[^\x21-\x7e]/g, (character) => `%${character.charCodeAt(0).toString(16)}`);
}

async function startOf(body: Dispatcher.ResponseData["body"]): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const part of body as AsyncIterable<Buffer>) {
      parts.push(part);
      bytes += part.length;
      if (bytes > MAX_ANSWER_BYTES) break;
    }
  } catch {
    // What came until here is enough: the status is known.
  }
  const text = Buffer.concat(parts).toString("utf8").replace(/\s+/g, " ").trim();
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text;
}

function first(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}

/** Servers echo what they were sent; our secrets must not come back through their words. */
function redactor(checked: HttpOptions): (text: string) => string {
  const { url, headers } = requestParts(checked);
  const secrets = [
    url.username,
    url.password,
    decodeURIComponent(url.password),
    ...Object.values(headers),
    ...Object.values(headers).map((value) => value.replace(/^\S+ /, "")),
  ]
    .filter((value) => value.length >= 4)
    .sort((left, right) => right.length - left.length);
  return (text) => secrets.reduce((shown, value) => shown.replaceAll(value, "***"), text);
}

function withoutUserInfo(text: string): string {
  const url = new URL(text);
  url.username = "";
  url.password = "";
  return url.href;
}

function checkUrl(text: string, context: z.RefinementCtx): void {
  const mistake = urlMistake(text);
  if (mistake !== undefined) context.addIssue({ code: "custom", message: mistake });
}

/** Says nothing of the text itself: it may hold a password. */
function urlMistake(text: string): string | undefined {
  if (!URL.canParse(text)) return "this is no valid URL; give one such as https://logs.example.com/ingest";
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:")
    return `a URL of http or https is needed, not ${url.protocol}`;
  try {
    decodeURIComponent(url.username + url.password);
  } catch {
    return "the user info has a % that is no escape; a % itself is written %25";
  }
  return undefined;
}

/** Set by us for each request; another value would make the request a lie. */
const OWN_HEADERS = new Set([
  "content-length",
  "content-encoding",
  "transfer-encoding",
  "host",
  "connection",
  "idempotency-key",
]);

function checkHeaders(checked: { url: string; headers: { [name: string]: string } }, context: z.RefinementCtx): void {
  const seen = new Set<string>();
  for (const [name, value] of Object.entries(checked.headers)) {
    const small = name.toLowerCase();
    const path = ["headers", name];
    if (OWN_HEADERS.has(small))
      context.addIssue({ code: "custom", path, message: `${name} is set for each request; leave it out` });
    if (!/^[!#$%&'*+.^_`|~\w-]+$/.test(name)) {
      context.addIssue({ code: "custom", path, message: "this is no valid header name" });
    }
    if (seen.has(small)) context.addIssue({ code: "custom", path, message: `${name} is there twice` });
    seen.add(small);
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) {
      context.addIssue({ code: "custom", path, message: "the value has characters that no header can carry" });
    }
    const hasUserInfo =
      URL.canParse(checked.url) && new URL(checked.url).username + new URL(checked.url).password !== "";
    if (small === "authorization" && hasUserInfo) {
      context.addIssue({ code: "custom", path, message: "the URL has user info too; give one of the two" });
    }
  }
}
