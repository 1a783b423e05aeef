import type { GeneralInput } from "./schema.ts";

/** Optional all the way down: what is left out has its default. */
type Input<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [Key in keyof T]?: Input<T[Key]> | undefined }
    : T;

type StageOptions = { [key: string]: unknown };

/** `[sources.NAME]`: `type`, the keys of that type, and the common ones. */
export type SourceConfig = { type: string; previous_names?: string[] } & StageOptions;
/** `[transforms.NAME]`. */
export type TransformConfig = { type: string; inputs: string[]; previous_names?: string[] } & StageOptions;
/** `[sinks.NAME]`. */
export type SinkConfig = {
  type: string;
  inputs: string[];
  previous_names?: string[];
  backfill?: boolean;
} & StageOptions;

/** The configuration as TypeScript: the same tables and keys as the TOML, snake_case too. */
export type TailraceConfig = Input<GeneralInput> & {
  sources?: { [name: string]: SourceConfig };
  transforms?: { [name: string]: TransformConfig };
  sinks?: { [name: string]: SinkConfig };
};

/**
 * The typed equal of the TOML, for `tailrace.config.ts`. It checks nothing at run time; `tailrace` checks what the file
 * exports just as it checks the TOML.
 *
 * @example
 * export default defineConfig({
 *   sources: { app: { type: "file", include: ["/var/log/app/*.log"] } },
 *   sinks: { out: { type: "file", inputs: ["app"], path: "/data/out.ndjson" } },
 * });
 */
export function defineConfig<const Config extends TailraceConfig>(config: Config): Config {
  return config;
}
