import type { Msg, NatsConnection, Subscription } from "@nats-io/transport-node";
import type { NatsClient } from "../../nats/connection.ts";
import type { Clock, Timer } from "../../runtime/clock.ts";

/** Messages on their way that the server has not answered yet, and their bytes: enough for the wire never to idle. */
const MAX_UNANSWERED = 2048;
const MAX_UNANSWERED_BYTES = 4 * 1024 * 1024;

const CLOSED = "the connection to NATS ended";

export interface Outgoing {
  readonly id: string;
  readonly body: Uint8Array;
  /** Value of the sink's own header. */
  readonly place: string | undefined;
}

/** What the server said to one message. */
export type Answer =
  | { readonly kind: "stored"; readonly sequence: number }
  /** It has seen the id before. Whether the message is there is another question. */
  | { readonly kind: "duplicate"; readonly sequence: number }
  | { readonly kind: "refused"; readonly code: number; readonly reason: string }
  /** Nobody takes the subject at the moment. */
  | { readonly kind: "nobody" };

/** What the first message expects; each further one expects the one before to be the last message of the whole stream. */
export interface Expectation {
  /** The stream that must take it. */
  readonly stream: string;
  /** Sequence of the last message on the subject; 0: none. */
  readonly lastSubjectSequence: number;
}

export interface Published {
  /** As far as answers came, in the order of the messages; undefined: none came. */
  readonly answers: readonly (Answer | undefined)[];
  /** Why there are messages without an answer, if there are. */
  readonly silence: string | undefined;
}

/**
 * Publishes many messages at once, in order, over one connection: answers come to a subscription of its own and are
 * counted, since a promise and a timer for each message cost more than the message.
 */
export class Publisher {
  readonly #connection: NatsConnection;
  readonly #client: NatsClient;
  readonly #clock: Clock;
  readonly #subject: string;
  readonly #inbox: string;
  readonly #subscription: Subscription;
  #run: Run | undefined;
  #runs = 0;
  #isClosed = false;

  constructor(options: { connection: NatsConnection; client: NatsClient; clock: Clock; subject: string }) {
    this.#connection = options.connection;
    this.#client = options.client;
    this.#clock = options.clock;
    this.#subject = options.subject;
    this.#inbox = options.client.transport.createInbox();
    this.#subscription = this.#connection.subscribe(`${this.#inbox}.*.*`, {
      callback: (error, message) => {
        if (error === null || error === undefined) this.#take(message);
      },
    });
    // Once, and not with each write: a connection lives long, and would keep them all.
    const closed = () => {
      this.#isClosed = true;
      this.#run?.fall(CLOSED);
    };
    void this.#connection.closed().then(closed, closed);
    void this.#hearRefusals().catch(closed);
  }

  /** A message that we may not publish has no answer: the server says so on the side, and goes on. */
  async #hearRefusals(): Promise<void> {
    for await (const status of this.#connection.status()) {
      if (status.type !== "error") continue;
      const { error } = status;
      if (!(error instanceof this.#client.transport.PermissionViolationError)) continue;
      if (error.operation === "publish" && error.subject === this.#subject)
        this.#run?.fall(`the server does not allow us to publish on ${this.#subject}`);
    }
  }

  close(): void {
    this.#subscription.unsubscribe();
  }

  /**
   * Sends `messages` and resolves when each has its answer, or when none came for `timeoutMs`, the connection ended or
   * `signal` aborted. After the first message that was not stored nothing more is sent.
   */
  async publish(
    messages: readonly Outgoing[],
    options: { expect: Expectation | undefined; timeoutMs: number; signal: AbortSignal },
  ): Promise<Published> {
    const { expect, timeoutMs, signal } = options;
    this.#runs += 1;
    const run = new Run(messages.length);
    this.#run = run;
    const name = `${this.#inbox}.${this.#runs}`;
    const stop = () => run.fall("it was told to stop");
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    if (this.#isClosed) run.fall(CLOSED);
    let timer: Timer | undefined;
    let answeredBefore = -1;
    const watch = () => {
      if (run.answered === answeredBefore) return run.fall(`no answer for ${timeoutMs} ms`);
      answeredBefore = run.answered;
      timer = this.#clock.after(timeoutMs, watch);
    };
    watch();
    try {
      for (let index = 0; index < messages.length; index += 1) {
        const message = messages[index]!;
        while (run.isGoingOn && !run.hasRoom(message.body.length)) await run.moved();
        if (!run.isGoingOn) break;
        run.sent(message.body.length);
        this.#connection.publish(this.#subject, message.body, {
          headers: this.#headersOf(message, index === 0 ? undefined : messages[index - 1], expect),
          reply: `${name}.${index}`,
        });
      }
      while (!run.isOver) await run.moved();
    } catch (thrown) {
      // The client refuses to send on a connection that is closing.
      run.fall(thrown instanceof Error ? thrown.message : String(thrown));
    } finally {
      timer?.cancel();
      signal.removeEventListener("abort", stop);
      this.#run = undefined;
    }
    return { answers: run.answers, silence: run.silence };
  }

  #headersOf(message: Outgoing, before: Outgoing | undefined, expect: Expectation | undefined) {
    const headers = this.#client.transport.headers();
    headers.append("Nats-Msg-Id", message.id);
    if (message.place !== undefined) headers.append("Tailrace-Record", message.place);
    if (expect === undefined) return headers;
    if (before === undefined) {
      headers.append("Nats-Expected-Stream", expect.stream);
      headers.append("Nats-Expected-Last-Subject-Sequence", String(expect.lastSubjectSequence));
    } else headers.append("Nats-Expected-Last-Msg-Id", before.id);
    return headers;
  }

  #take(message: Msg): void {
    const [run, index] = message.subject.slice(this.#inbox.length + 1).split(".");
    // An answer that comes after its run was given up is nobody's.
    if (this.#run === undefined || Number(run) !== this.#runs) return;
    this.#run.answer(Number(index), answerOf(message));
  }
}

/** PubAck of the JetStream API: {stream, seq, duplicate?} or {error: {code, err_code, description}}. */
function answerOf(message: Msg): Answer {
  if (message.data.length === 0) return { kind: "nobody" };
  const { seq, duplicate, error } = message.json<{
    seq?: number;
    duplicate?: boolean;
    error?: { err_code?: number; code?: number; description?: string };
  }>();
  if (error !== undefined || seq === undefined) {
    const { err_code: code = 0, description = "it gave no reason" } = error ?? {};
    return { kind: "refused", code, reason: description };
  }
  return { kind: duplicate === true ? "duplicate" : "stored", sequence: seq };
}

/** The messages of one `publish` that are under way. */
class Run {
  readonly answers: (Answer | undefined)[];
  silence: string | undefined;
  answered = 0;
  #sent = 0;
  /** Sizes of what was sent, to be taken off when it is answered. */
  readonly #sizes: number[] = [];
  #bytes = 0;
  #isBroken = false;
  #wake: (() => void) | undefined;

  constructor(count: number) {
    this.answers = new Array<Answer | undefined>(count).fill(undefined);
  }

  get isGoingOn(): boolean {
    return !this.#isBroken && this.silence === undefined;
  }

  /** Everything that was sent is answered, or nobody waits for it any more. */
  get isOver(): boolean {
    return this.answered === this.#sent || this.silence !== undefined;
  }

  hasRoom(bytes: number): boolean {
    const unanswered = this.#sent - this.answered;
    return unanswered === 0 || (unanswered < MAX_UNANSWERED && this.#bytes + bytes <= MAX_UNANSWERED_BYTES);
  }

  sent(bytes: number): void {
    this.#sizes.push(bytes);
    this.#sent += 1;
    this.#bytes += bytes;
  }

  answer(index: number, answer: Answer): void {
    if (index >= this.#sent || this.answers[index] !== undefined) return;
    this.answers[index] = answer;
    this.answered += 1;
    this.#bytes -= this.#sizes[index]!;
    if (answer.kind !== "stored") this.#isBroken = true;
    this.#move();
  }

  /** Answers are not waited for any more. */
  fall(reason: string): void {
    if (this.answered === this.answers.length) return;
    this.silence ??= reason;
    this.#move();
  }

  moved(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #move(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
