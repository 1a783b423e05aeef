import type { AgentStatus } from "../agent/status.ts";

/** Writes one live line on a terminal: files, lines/s, lag, last commit. */
export class StatusLine {
  readonly #write: (text: string) => void;
  readonly #columns: () => number;
  #lastRecords: number | undefined;
  #lastAtMs = 0;
  #isShown = false;

  constructor(write: (text: string) => void, columns: () => number) {
    this.#write = write;
    this.#columns = columns;
  }

  show(status: AgentStatus, nowMs: number): void {
    const seconds = (nowMs - this.#lastAtMs) / 1000;
    const rate = this.#lastRecords === undefined || seconds <= 0 ? 0 : (status.records - this.#lastRecords) / seconds;
    this.#lastRecords = status.records;
    this.#lastAtMs = nowMs;
    const parts = [
      `${status.files} ${status.files === 1 ? "file" : "files"}`,
      `${formatCount(Math.round(rate))} lines/s`,
      `${formatCount(status.records)} lines`,
      `lag ${formatBytes(status.lagBytes)}`,
      status.lastCommitAgoMs === undefined ? "no commit yet" : `last commit ${formatAgo(status.lastCommitAgoMs)} ago`,
      ...status.troubles,
    ];
    this.#write(`\r\u001b[2K${parts.join(" · ").slice(0, this.#columns() - 1)}`);
    this.#isShown = true;
  }

  /** Takes the line away, so that something else can be printed. */
  clear(): void {
    if (this.#isShown) this.#write("\r\u001b[2K");
    this.#isShown = false;
  }
}

export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function formatAgo(ms: number): string {
  return ms < 1000
    ? `${Math.round(ms)} ms`
    : ms < 60_000
      ? `${Math.round(ms / 1000)} s`
      : `${Math.round(ms / 60_000)} min`;
}
