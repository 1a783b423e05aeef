/** A pattern that cannot mean what it says; the message says why and how to write what may be meant. */
export class PatternError extends Error {
  override readonly name = "PatternError";
}
