import { createRequire } from "node:module";
import { pino } from "pino";
import type { LogFields, Logger } from "./log.ts";
import { maskUrls, redact } from "./redact.ts";

/** From few words to many. `silent` says nothing at all. */
export type LogLevel = "silent" | "error" | "warn" | "info" | "debug";

export type LogFormat = "json" | "pretty";

/** Takes whole lines; standard error, or a test's array. */
interface LogStream {
  write(line: string): unknown;
}

export interface LogOptions {
  readonly level: LogLevel;
  /** `json`: one object a line, `level` as a word, `time` ISO 8601, the text in `msg`. `pretty`: for people. */
  readonly format: LogFormat;
  readonly stream: LogStream;
  /** Colours, with `pretty` only. */
  readonly hasColours?: boolean;
}

/**
 * The log of an agent. Each line is written before the call returns, so that the last words of a dying process are
 * seen. Fields with a secret's name and the user info of URLs show as `***`, whoever logs them.
 */
export function createLogger(options: LogOptions): Logger {
  const logger = pino(
    {
      level: options.level,
      // Neither process id nor host: whoever collects the lines knows both.
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    options.format === "pretty" ? prettyStream(options) : options.stream,
  );
  return new PinoLogger(logger as unknown as PinoLike);
}

/** pino-pretty in this process, not in a worker thread, which would lose its last lines at a crash. */
function prettyStream(options: LogOptions): LogStream {
  // It takes 60 ms to load, which only those who look at it should wait for.
  const load = createRequire(import.meta.url);
  const { prettyFactory } = load("pino-pretty") as typeof import("pino-pretty");
  const pretty = prettyFactory({ colorize: options.hasColours === true, translateTime: "SYS:HH:MM:ss.l" });
  return { write: (line) => options.stream.write(pretty(line)) };
}

/** What is used of pino's own logger. */
type PinoLike = Record<Exclude<LogLevel, "silent">, (fields: object, message: string) => void> & {
  isLevelEnabled(level: string): boolean;
  child(fields: object): PinoLike;
};

class PinoLogger implements Logger {
  readonly #pino: PinoLike;

  constructor(logger: PinoLike) {
    this.#pino = logger;
  }

  error(fields: LogFields, message: string): void {
    this.#write("error", fields, message);
  }

  warn(fields: LogFields, message: string): void {
    this.#write("warn", fields, message);
  }

  info(fields: LogFields, message: string): void {
    this.#write("info", fields, message);
  }

  debug(fields: LogFields, message: string): void {
    this.#write("debug", fields, message);
  }

  child(fields: LogFields): Logger {
    return new PinoLogger(this.#pino.child(shownFields(fields)));
  }

  #write(level: Exclude<LogLevel, "silent">, fields: LogFields, message: string): void {
    // Masking costs more than asking.
    if (this.#pino.isLevelEnabled(level)) this.#pino[level](shownFields(fields), maskUrls(message));
  }
}

const shownFields = (fields: LogFields): { [field: string]: unknown } => redact(fields) as { [field: string]: unknown };
