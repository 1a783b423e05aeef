import { type BytePath, pathFromText } from "../../runtime/byte-path.ts";
import type { Clock } from "../../runtime/clock.ts";
import { LogrotateConfig, type LogrotateFiles, type LogrotateRule } from "./logrotate-config.ts";
import { logrotatePattern, plainFolderOf } from "./logrotate-pattern.ts";

const CONFIGURATION: readonly BytePath[] = ["/etc/logrotate.conf", "/usr/etc/logrotate.conf"].map(pathFromText);
/** How often its files are looked at. */
const LOOK_MS = 60_000;

export interface LogrotateOptions extends LogrotateFiles {
  readonly clock: Clock;
  /** The first that exists is read, with all that it includes. */
  readonly configuration?: readonly BytePath[];
}

interface Matcher {
  readonly rule: LogrotateRule;
  readonly matches: (path: BytePath) => boolean;
}

/** What logrotate's own configuration says of a log, as it is now (at most a minute ago). */
export class Logrotate {
  readonly #options: LogrotateOptions;
  readonly #configuration: readonly BytePath[];
  #config: LogrotateConfig | undefined;
  #matchers: readonly Matcher[] = [];
  #lookedMs = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;
  #revision = 0;

  constructor(options: LogrotateOptions) {
    this.#options = options;
    this.#configuration = options.configuration ?? CONFIGURATION;
  }

  /** Another number: the rules were read anew. */
  get revision(): number {
    return this.#revision;
  }

  get rules(): readonly LogrotateRule[] {
    return this.#config?.rules ?? [];
  }

  /** Reads the configuration if it has changed; looks at it once a minute. Cheap, and never rejects. */
  async refresh(): Promise<void> {
    if (this.#looking !== undefined) return this.#looking;
    if (this.#options.clock.monotonic() - this.#lookedMs < LOOK_MS) return;
    this.#looking = this.#look().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  /** The rule for the log at an absolute path; the first that matches, as for logrotate itself. */
  ruleFor(path: BytePath): LogrotateRule | undefined {
    return this.#matchers.find(({ matches }) => matches(path))?.rule;
  }

  async #look(): Promise<void> {
    if (this.#config?.isCurrent(this.#options.fileSystem) !== true) {
      const config = await LogrotateConfig.read(this.#configuration, this.#options);
      this.#matchers = await Promise.all(config.rules.map((rule) => this.#matcherOf(rule)));
      this.#config = config;
      this.#revision += 1;
    }
    this.#lookedMs = this.#options.clock.monotonic();
  }

  /** Logs are known here by their real paths, so a pattern also stands for what its folder leads to. */
  async #matcherOf(rule: LogrotateRule): Promise<Matcher> {
    const tests: ((path: string) => boolean)[] = [];
    for (const pattern of rule.patterns) {
      if (!pattern.startsWith("/")) continue;
      tests.push(logrotatePattern(pattern));
      const folder = plainFolderOf(pattern);
      const real = folder === "" ? folder : await this.#realFolder(folder as BytePath);
      if (real !== folder)
        tests.push(logrotatePattern(real.replace(/[*?[\\]/g, "\\$&") + pattern.slice(folder.length)));
    }
    return { rule, matches: (path) => tests.some((test) => test(path)) };
  }

  async #realFolder(folder: BytePath): Promise<BytePath> {
    try {
      return await this.#options.fileSystem.realpath(folder);
    } catch {
      return folder;
    }
  }
}
