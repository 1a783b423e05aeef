/** What somebody waits for at the moment, in plain words; one thing at a time. */
export class WaitReason {
  #what: string | undefined;

  get what(): string | undefined {
    return this.#what;
  }

  async during<T>(what: string, wait: () => Promise<T>): Promise<T> {
    this.#what = what;
    try {
      return await wait();
    } finally {
      this.#what = undefined;
    }
  }
}
