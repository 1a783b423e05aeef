/** Something that was done to a file, an agent or a sink. */
export interface Happening {
  readonly atMs: number;
  readonly what: string;
}

/**
 * One life of a log's content, from its first line until another takes its place. It keeps its names and its story, which
 * are printed if a line of it is lost.
 */
export class Generation {
  readonly family: string;
  readonly number: number;
  /** Every path at which its content has been. */
  readonly names = new Set<string>();
  readonly story: Happening[] = [];
  /** Its first and last line; -1 while there is none. */
  firstLine = -1;
  lastLine = -1;
  /** When nothing more could be written to it. */
  endedAtMs: number | undefined;
  /** Its content was destroyed before an agent surely had it: what is missing must be told by a `gap`. */
  destroyedAtMs: number | undefined;

  /** Up to here an agent at work had time enough to see it: what is missing below must be told when it is destroyed. */
  seenOffset = 0;

  constructor(family: string, number: number) {
    this.family = family;
    this.number = number;
  }

  tell(what: string, atMs = Date.now()): void {
    this.story.push({ atMs, what });
  }
}
