import type { CliStream } from "./io.ts";

/** Standard output for what has no bound: as fast as it is read, and no faster. */
export class Output {
  readonly #stream: CliStream;
  #hasReader = true;
  #wake: () => void = () => {};

  constructor(stream: CliStream) {
    this.#stream = stream;
    stream.once?.("error", () => {
      this.#hasReader = false;
      this.#wake();
    });
  }

  /** False once whoever read has gone (`| head`): nothing more needs to be written. */
  get hasReader(): boolean {
    return this.#hasReader;
  }

  async write(text: string): Promise<void> {
    if (!this.#hasReader || this.#stream.write(text) !== false || this.#stream.once === undefined) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#stream.once?.("drain", resolve);
    });
  }
}
