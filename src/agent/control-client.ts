import { existsSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { TailraceError, toError } from "../errors.ts";

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

  #ask(method: string, path: string, body: string | undefined): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const headers =
        body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
      const asked = request({ socketPath: this.#socketPath, method, path, headers, timeout: 30_000 }, (answer) => {
        const parts: Buffer[] = [];
        answer.on("data", (part: Buffer) => parts.push(part));
        answer.on("error", reject);
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
      asked.on("timeout", () => asked.destroy(new Error("the running agent does not answer")));
      asked.on("error", reject);
      asked.end(body);
    });
  }
}
