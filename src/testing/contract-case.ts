/** One rule of a contract; `run` rejects where it is broken. Runs in any test runner: `it(title, run)`. */
export interface ContractCase {
  readonly title: string;
  run(): Promise<void>;
}
