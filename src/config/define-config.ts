import type { z } from "zod";
import type { StageDefinition } from "../stage/index.ts";
import type { builtInStages } from "../stages.ts";
import type { ChannelsInput } from "./channel-sections.ts";
import type { StageList } from "./components.ts";
import type { COMMON_KEYS, ComponentSection, GeneralInput } from "./schema.ts";

/** Stands, as in the TOML, for a value of any type: `"${PORT:-8080}"`. */
type Substitution = `\${${string}}`;

/** What a person writes where a schema takes `T`: lists may be read-only, and a value may be a substitution. */
type Written<T> = T extends (...args: never) => unknown
  ? T
  : T extends readonly (infer Item)[]
    ? readonly Written<Item>[]
    : T extends object
      ? { [Key in keyof T]: Written<T[Key]> }
      : T extends string | number | boolean
        ? T | Substitution
        : T;

/** Optional all the way down: what is left out has its default. */
type Partly<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [Key in keyof T]?: Partly<T[Key]> | undefined }
    : T;

/** The keys of a type's own. Nothing is known of options that are no plain table. */
type OwnKeys<Options> = unknown extends Options
  ? { [key: string]: unknown }
  : Options extends { [key: string]: never }
    ? unknown
    : Written<Options>;

type CommonKeys<Section extends ComponentSection> = Written<
  Omit<z.input<(typeof COMMON_KEYS)[Section]>, "type" | "inputs">
> &
  (Section extends "sources" ? unknown : { inputs: readonly string[] });

/** One member for each definition, told apart by `type`. */
type ComponentConfig<Section extends ComponentSection, Definition> = Definition extends StageDefinition
  ? { type: Definition["type"] } & CommonKeys<Section> & OwnKeys<z.input<Definition["options"]>>
  : never;

type SectionConfig<Section extends ComponentSection, Stages extends StageList> = {
  [name: string]: ComponentConfig<Section, Stages[Section][number]>;
};

/**
 * The configuration as TypeScript: the same tables and keys as the TOML, snake_case too. `Stages` are the kinds that may
 * be named as a `type`.
 */
export type TailraceConfig<Stages extends StageList = typeof builtInStages> = Written<
  Partly<Omit<GeneralInput, "mpsc_channels"> & { mpsc_channels: ChannelsInput }>
> & {
  sources?: SectionConfig<"sources", Stages>;
  transforms?: SectionConfig<"transforms", Stages>;
  sinks?: SectionConfig<"sinks", Stages>;
};

/**
 * The typed equal of the TOML, for `tailrace.config.ts`: a wrong key, value or type is an error of the compiler, by the
 * schemas that `tailrace` itself checks with. Nothing is checked at run time here; `tailrace` checks what the file exports
 * just as it checks the TOML.
 *
 * With stages of one's own beside the built-in ones, name them: `defineConfig<typeof stages>({ ... })`.
 *
 * @example
 * export default defineConfig({
 *   sources: { app: { type: "file", include: ["/var/log/app/*.log"] } },
 *   transforms: { team: { type: "map", inputs: ["app"], function: (event) => ({ ...event, team: "checkout" }) } },
 *   sinks: { out: { type: "file", inputs: ["team"], path: "/data/out.ndjson" } },
 * });
 */
export function defineConfig<Stages extends StageList = typeof builtInStages>(
  config: TailraceConfig<NoInfer<Stages>>,
): TailraceConfig<Stages> {
  return config;
}
