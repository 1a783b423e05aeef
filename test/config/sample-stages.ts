import { z } from "zod";
import {
  type ConfigFiles,
  type LoadedPlan,
  type LoadOptions,
  loadPlan,
  type StageList,
} from "../../src/config/index.ts";
import { ConfigError, describeMistake } from "../../src/errors.ts";
import { defineSink, defineSource, defineTransform, encoding, retryOptions, secret } from "../../src/stage/index.ts";

const never = () => Promise.reject(new Error("a configuration test opens nothing"));

/** Small stages with the option shapes that matter for configuration; nothing in them can be opened. */
export const sampleStages: StageList = {
  sources: [
    defineSource({
      type: "file",
      summary: "Files.",
      options: z.strictObject({
        include: z.array(z.string()).min(1).describe("Globs."),
        archives: z.boolean().default(true),
        max_line_bytes: z.int().min(1).default(1048576),
      }),
      replay: "replayable",
      // Globs are the real source's; here one star stands for one name.
      reads: ({ include }, path) => include.some((glob) => glob === path.replace(/[^/]+\.log$/, "*.log")),
      open: never,
    }),
    defineSource({ type: "stdin", summary: "Input.", options: z.strictObject({}), replay: "fleeting", open: never }),
    defineSource({
      type: "queue",
      summary: "A queue.",
      options: z.strictObject({ url: secret() }),
      replay: "acknowledged",
      open: never,
    }),
  ],
  transforms: [
    defineTransform({ type: "json", summary: "JSON.", options: z.strictObject({}), open: never }),
    defineTransform({
      type: "filter",
      summary: "Filter.",
      options: z.object({ condition: z.string().refine((text) => text !== "bad", "the condition ends too early") }),
      open: never,
    }),
  ],
  sinks: [
    defineSink({
      type: "file",
      summary: "A file.",
      options: z.strictObject({ path: z.string().min(1), encoding: encoding() }),
      guarantee: "exactly_once",
      target: (options) => options.path,
      output: (options) => options.path,
      open: never,
    }),
    defineSink({
      type: "http",
      summary: "HTTP.",
      options: z.strictObject({
        url: z.url(),
        token: secret().optional(),
        headers: z.record(z.string(), z.string()).default({}),
        encoding: encoding(),
        retry: retryOptions(),
      }),
      guarantee: "at_least_once",
      open: never,
    }),
  ],
};

export interface SampleOptions extends Omit<LoadOptions, "stages" | "env" | "cwd" | "files"> {
  readonly env?: { readonly [name: string]: string };
  readonly modules?: { readonly [path: string]: { readonly [name: string]: unknown } };
}

/** Loads from a map of path to text. */
export function loadSample(
  files: { readonly [path: string]: string | Uint8Array },
  { env = {}, modules = {}, ...options }: SampleOptions = {},
): Promise<LoadedPlan> {
  return loadPlan({ stages: sampleStages, env, cwd: "/home", files: filesOf(files, modules), ...options });
}

/** Every mistake of a configuration, as it is printed. */
export async function mistakesOf(
  files: { readonly [path: string]: string | Uint8Array },
  options: SampleOptions = {},
): Promise<string[]> {
  try {
    await loadSample(files, options);
    return [];
  } catch (thrown) {
    if (thrown instanceof ConfigError) return thrown.mistakes.map(describeMistake);
    throw thrown;
  }
}

function filesOf(
  files: { readonly [path: string]: string | Uint8Array },
  modules: { readonly [path: string]: { readonly [name: string]: unknown } },
): ConfigFiles {
  const paths = [...Object.keys(files), ...Object.keys(modules)];
  const below = (folder: string) => paths.filter((path) => path.startsWith(`${folder}/`));
  return {
    async kind(path) {
      if (paths.includes(path)) return "file";
      return below(path.replace(/\/+$/, "")).length > 0 ? "folder" : undefined;
    },
    async read(path) {
      const content = files[path]!;
      return typeof content === "string" ? Buffer.from(content) : content;
    },
    // Last first: the reader must put them in order itself.
    list: async (folder) => [
      ...new Set(
        below(folder)
          .map((path) => path.slice(folder.length + 1).split("/")[0]!)
          .reverse(),
      ),
    ],
    load: async (path) => modules[path]!,
  };
}

/** A file source into a file sink. */
export const SMALL = `
[sources.app]
type = "file"
include = ["/var/log/app/*.log"]

[sinks.out]
type = "file"
inputs = ["app"]
path = "/data/out.ndjson"
`;
