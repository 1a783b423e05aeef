import type { createColors } from "picocolors";
import type { Trial } from "./trial.ts";

export interface Terminal {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

const REDRAW_MS = 500;
const LINE_MS = 10_000;
const HAPPENINGS = 6;

/** Shows a run while it goes on: a screen that is drawn again on a terminal, one line each ten seconds elsewhere. */
export class LiveScreen {
  readonly #terminal: Terminal;
  readonly #paint: ReturnType<typeof createColors>;
  readonly #isDrawn: boolean;
  #trial: Trial | undefined;
  #seconds = 0;
  #title = "";
  #startMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #drawn = 0;

  /** `isDumb`: a terminal that cannot move its cursor. */
  constructor(terminal: Terminal, paint: ReturnType<typeof createColors>, isDumb: boolean) {
    this.#terminal = terminal;
    this.#paint = paint;
    this.#isDrawn = terminal.isTTY === true && !isDumb;
  }

  start(trial: Trial, title: string, seconds: number): void {
    this.#trial = trial;
    this.#title = title;
    this.#seconds = seconds;
    this.#startMs = Date.now();
    this.#timer = setInterval(() => this.#show(), this.#isDrawn ? REDRAW_MS : LINE_MS);
    if (this.#isDrawn) this.#show();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#clear();
  }

  #show(): void {
    if (this.#isDrawn) this.#draw();
    else this.#terminal.write(`${this.#passed()}: ${this.#figures().join("; ")}\n`);
  }

  #draw(): void {
    const paint = this.#paint;
    const width = (this.#terminal.columns ?? 80) - 1;
    const part = 1 - this.#trial!.secondsLeft / this.#seconds;
    const cells = Math.max(10, Math.min(40, width - 40));
    const full = Math.round(part * cells);
    const bar = `${"#".repeat(full)}${"-".repeat(cells - full)}`;
    const left = this.#trial!.secondsLeft;
    const time = left > 0 ? `${Math.ceil(left)} s left` : "waiting for what is missing";
    const lines = [
      { text: this.#title, colour: paint.bold },
      { text: `[${bar}] ${this.#passed()}, ${time}`, colour: String },
      ...this.#figures().map((text) => ({ text, colour: String })),
      ...this.#trial!.happenings.slice(-HAPPENINGS).map(({ atMs, what }) => ({
        text: `${new Date(atMs).toISOString().slice(11, 19)} ${what}`,
        colour: paint.dim,
      })),
    ];
    this.#clear();
    this.#terminal.write(lines.map(({ text, colour }) => `${colour(text.slice(0, width))}\n`).join(""));
    this.#drawn = lines.length;
  }

  #figures(): string[] {
    const { ledger, done, agentState, receiver } = this.#trial!;
    const rotations = [...done].filter(
      ([what]) => what.includes("_") || what === "copytruncate" || what === "truncate",
    );
    const sum = rotations.reduce((total, [, times]) => total + times, 0);
    return [
      `written ${ledger.lines} lines in ${ledger.generations} generations`,
      ...ledger.sinks.map(
        (sink) => `${sink}: arrived ${ledger.arrived(sink)}, on the way ${ledger.lines - ledger.arrived(sink)}`,
      ),
      `${sum} rotations, ${done.get("kills") ?? 0} kills, ${done.get("stops") ?? 0} stops`,
      `agent ${agentState}, receiver ${receiver.mood}`,
    ];
  }

  #passed(): string {
    return `${Math.round((Date.now() - this.#startMs) / 1000)} s`;
  }

  #clear(): void {
    if (this.#drawn > 0) this.#terminal.write(`\u001b[${this.#drawn}A\u001b[J`);
    this.#drawn = 0;
  }
}
