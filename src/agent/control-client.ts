import { once } from "node:events";
import { existsSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { ConfigError, errnoOf, TailraceError, toError } from "../errors.ts";

/** A connection that is kept for the next question may be closed by the agent just before that is asked. */
const ALONE = { agent: false } as const;
const ANSWER_TIMEOUT_MS = 30_000;

/** Asks a running agent over its control socket. */
export class ControlClient {
  readonly #socketPath: string;

  constructor(stateDir: string) {
    this.#socketPath = join(stateDir, "control.sock");
  }

  /** True if an agent answers. */
  async isRunning(): Promise<boolean> {
    if (!existsSync(this.#socketPath)) return false;
    try {
      await this.get("/status");
      return true;
    } catch {
      return false;
    }
  }

  get(path: string): Promise<unknown> {
    return this.#ask("GET", path, undefined);
  }

  post(path: string, body: unknown): Promise<unknown> {
    return this.#ask("POST", path, JSON.stringify(body));
  }

  /**
   * The lines of an answer that goes on, as they come; ends when the agent ends it, or `signal` aborts.
   * @throws ConfigError (`TR_USAGE`) if the agent knows no such thing; TailraceError (`TR_STATE_UNUSABLE`) if it was killed
   */
  async *lines(path: string, { signal }: { signal: AbortSignal }): AsyncGenerator<string, undefined, undefined> {
    const asked = request({ ...ALONE, socketPath: this.#socketPath, path });
    signal.addEventListener("abort", () => asked.destroy(), { once: true });
    asked.end();
    try {
      const [answer] = (await once(asked, "response")) as [IncomingMessage];
      if (answer.statusCode !== 200) throw await refusal(answer);
      yield* createInterface({ input: answer, crlfDelay: Number.POSITIVE_INFINITY });
    } catch (error) {
      if (signal.aborted) return undefined;
      if (errnoOf(error) !== "ECONNRESET") throw error;
      throw new TailraceError("TR_STATE_UNUSABLE", "the agent went away without a word", { cause: error });
    } finally {
      asked.destroy();
    }
    return undefined;
  }

  #ask(method: string, path: string, body: string | undefined): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const headers =
        body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
      const options = { ...ALONE, socketPath: this.#socketPath, method, path, headers, timeout: ANSWER_TIMEOUT_MS };
      const asked = request(options, (answer) => {
        const parts: Buffer[] = [];
        answer.on("data", (part: Buffer) => parts.push(part));
        answer.on("error", (error) => reject(lost(error)));
        answer.on("end", () => {
          try {
            const value: unknown = JSON.parse(Buffer.concat(parts).toString("utf8"));
            if ((answer.statusCode ?? 500) < 300) return resolve(value);
            const { message } = value as { message?: string };
            reject(new TailraceError("TR_INTERNAL", `the running agent refused: ${message ?? answer.statusCode}`));
          } catch (error) {
            reject(toError(error));
          }
        });
      });
      const silent = `the running agent has not answered for ${ANSWER_TIMEOUT_MS / 1000} s`;
      asked.on("timeout", () => asked.destroy(new TailraceError("TR_STATE_UNUSABLE", silent)));
      asked.on("error", (error) => reject(lost(error)));
      asked.end(body);
    });
  }
}

/** Whether it did what it was asked nobody knows. */
function lost(error: Error): TailraceError {
  if (error instanceof TailraceError) return error;
  const why = errnoOf(error) ?? error.message;
  return new TailraceError(
    "TR_STATE_UNUSABLE",
    `the agent went away before it had answered (${why}); look whether it runs, and ask again`,
    { cause: error },
  );
}

async function refusal(answer: IncomingMessage): Promise<Error> {
  const { message } = JSON.parse(await text(answer)) as { message: string };
  if (answer.statusCode === 400 || answer.statusCode === 404) return new ConfigError([{ message }], "TR_USAGE");
  return new TailraceError("TR_INTERNAL", `the running agent refused: ${message}`);
}
