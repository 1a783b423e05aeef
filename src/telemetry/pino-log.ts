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
export function createLogger(options: LogOptions): LeveledLogger {
  const logger = pino(
    {
      // Ours is the level that counts: it can be changed, for every child at once.
      level: "debug",
      // Neither process id nor host: whoever collects the lines knows both.
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      // `redact` has made plain data of errors; pino's own way would put a stack back.
      serializers: { err: (shown: unknown) => shown },
      formatters: { level: (label) => ({ level: label }) },
    },
    options.format === "pretty" ? prettyStream(options) : options.stream,
  );
  return new PinoLogger(logger as unknown as PinoLike, { rank: RANKS[options.level] });
}

/** The log whose least level can be changed while it is in use; its children follow. */
export interface LeveledLogger extends Logger {
  setLevel(level: LogLevel): void;
}

const RANKS: { readonly [level in LogLevel]: number } = { silent: 0, error: 1, warn: 2, info: 3, debug: 4 };

/** pino-pretty in this process, not in a worker thread, which would lose its last lines at a crash. */
function prettyStream(options: LogOptions): LogStream {
  // It takes 60 ms to load, which only those who look at it should wait for.
  const load = createRequire(import.meta.url);
  const { prettyFactory } = load("pino-pretty") as typeof import("pino-pretty");
  const pretty = prettyFactory({
    colorize: options.hasColours === true,
    translateTime: "SYS:HH:MM:ss.l",
    messageFormat: "{if component}{component}: {end}{msg}",
    // One line each; what the sentence says already is not said twice.
    singleLine: true,
    ignore: "component,event,file,offset,generation,state_dir,address,phase",
  });
  return { write: (line) => options.stream.write(pretty(line)) };
}

/** What is used of pino's own logger. */
type PinoLike = Record<Exclude<LogLevel, "silent">, (fields: object, message: string) => void> & {
  child(fields: object): PinoLike;
};

class PinoLogger implements LeveledLogger {
  readonly #pino: PinoLike;
  /** Shared by all children. */
  readonly #shown: { rank: number };

  constructor(logger: PinoLike, shown: { rank: number }) {
    this.#pino = logger;
    this.#shown = shown;
  }

  setLevel(level: LogLevel): void {
    this.#shown.rank = RANKS[level];
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
    return new PinoLogger(this.#pino.child(shownFields(fields)), this.#shown);
  }

  #write(level: Exclude<LogLevel, "silent">, fields: LogFields, message: string): void {
    // Masking costs more than asking.
    if (RANKS[level] <= this.#shown.rank) this.#pino[level](shownFields(fields), maskUrls(message));
  }
}

const shownFields = (fields: LogFields): { [field: string]: unknown } => redact(fields) as { [field: string]: unknown };
