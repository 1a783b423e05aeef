import { z } from "zod";
import { ConfigError, type Mistake, TailraceError } from "../errors.ts";
import { maskUrls } from "../telemetry/redact.ts";
import { channelWarnings, checkChannels, sinkWarnings } from "./check-channels.ts";
import {
  type CheckedComponent,
  type Component,
  checkComponent,
  componentShape,
  findComponents,
  reportFeedback,
  reportSharedTargets,
  reportUnusable,
  type StageList,
} from "./components.ts";
import { type Effective, Explainer, type Explanation } from "./explain.ts";
import { type ConfigFiles, nodeConfigFiles } from "./files.ts";
import { checkGraph } from "./graph.ts";
import { check } from "./issues.ts";
import { planOf } from "./keys.ts";
import { DEFAULT_FILE, type Layers, parseSet, readLayers } from "./layers.ts";
import type { Plan } from "./plan.ts";
import { COMPONENT_SECTIONS, type GeneralConfig, generalSchema } from "./schema.ts";
import { shapesOf } from "./schema-walk.ts";
import { substituteTree } from "./substitute.ts";
import { type KeyPath, overlay, type TableNode, treeFrom } from "./tree.ts";
import { unknownKeys } from "./unknown-keys.ts";

/*
 * From files to a plan:
 *
 *   layers --merge--> tree --substitute--> tree --find components--> schema --check--> values --rename--> Plan
 *                     (every key with its place)            (built for these names and types)
 *
 * Each step adds its mistakes to one list and goes on with what it has, so that all are told at once.
 */

export interface LoadOptions {
  readonly stages: StageList;
  /** `-c`, in order; none: `./tailrace.toml` if it exists. */
  readonly configs?: readonly string[] | undefined;
  /** `-e`; else `TAILRACE_ENV`, else development. */
  readonly environment?: string | undefined;
  /** `--set KEY=VALUE`, in order. */
  readonly sets?: readonly string[] | undefined;
  /** `--state-dir`. */
  readonly stateDir?: string | undefined;
  readonly env: { readonly [name: string]: string | undefined };
  /** Relative paths start here. */
  readonly cwd: string;
  /**
   * A configuration that a command makes itself, above the files and below `--set`; nothing in it is substituted.
   * With one, `./tailrace.toml` is not looked for.
   */
  readonly made?: { readonly by: string; readonly config: object } | undefined;
  /**
   * - `pipeline`: at least one source and one sink, as `run` needs (the default)
   * - `file`: a configuration must be there, if only the shipped tree
   * - `nothing`: built-in defaults will do
   */
  readonly needs?: "pipeline" | "file" | "nothing" | undefined;
  /** Default: the files of this machine. */
  readonly files?: ConfigFiles | undefined;
}

export interface LoadedPlan {
  readonly plan: Plan;
  /**
   * The effective value of a key, or of all keys below a table, each with the place that set it.
   * @throws ConfigError for a key that does not exist
   */
  explain(key: string): Explanation;
  /** What is worth a look but stops nothing. */
  readonly warnings: readonly Mistake[];
  /** Every configuration file that was read, in order. */
  readonly files: readonly string[];
}

/**
 * Reads, merges and checks a configuration. Nothing is created or changed by it. Where something is to run from it,
 * modules that it names are loaded, which runs what stands at their top.
 * @throws ConfigError with every mistake, in the order of files and lines
 */
export async function loadPlan(options: LoadOptions): Promise<LoadedPlan> {
  const mistakes: Mistake[] = [];
  try {
    const loaded = await new Loader(options, mistakes).load();
    if (mistakes.length === 0 && loaded !== undefined) return loaded;
  } catch (thrown) {
    // Only a text made for it exhausts the stack.
    if (!(thrown instanceof RangeError)) throw thrown;
    mistakes.push({ message: "the configuration is nested too deeply to be read" });
  }
  if (mistakes.length === 0) throw new TailraceError("TR_INTERNAL", "the configuration was refused without a reason");
  throw new ConfigError(inOrder(mistakes).map((mistake) => ({ ...mistake, message: maskUrls(mistake.message) })));
}

class Loader {
  readonly #options: LoadOptions;
  readonly #mistakes: Mistake[];

  constructor(options: LoadOptions, mistakes: Mistake[]) {
    this.#options = options;
    this.#mistakes = mistakes;
  }

  async load(): Promise<LoadedPlan | undefined> {
    const layers = await this.#readLayers();
    const isBroken = this.#mistakes.length > 0;
    const tree = substituteTree(this.#withOptions(layers.tree), this.#options.env, this.#mistakes);
    // Of a file that could not be read everything would be missing; saying so would hide the one true mistake.
    if (isBroken && layers.tree.entries.size === 0) return undefined;
    // What a failed substitution left behind is no second mistake.
    const told = new Set(this.#mistakes.map(keyOfMistake));
    const before = this.#mistakes.length;
    const loaded = await this.#checked(tree, layers);
    const fresh = this.#mistakes.splice(before).filter((mistake) => !told.has(keyOfMistake(mistake)));
    this.#mistakes.push(...fresh);
    return loaded;
  }

  async #readLayers(): Promise<Layers> {
    const { configs = [], made, env, cwd, environment } = this.#options;
    const files = this.#options.files ?? nodeConfigFiles(cwd);
    if (made !== undefined && configs.length === 0) {
      const nowhere: ConfigFiles = { ...files, kind: async () => undefined };
      const layers = await readLayers({ configs: [], environment, env, files: nowhere }, this.#mistakes);
      return { ...layers, wasFound: true };
    }
    const layers = await readLayers({ configs, environment, env, files }, this.#mistakes);
    if (!layers.wasFound && (this.#options.needs ?? "pipeline") !== "nothing")
      this.#mistakes.push({ message: `there is no ./${DEFAULT_FILE}; name a configuration with -c FILE or -c FOLDER` });
    return layers;
  }

  /** The layers above all files: what a command made, `--set`, `--state-dir`. */
  #withOptions(lower: TableNode): TableNode {
    const { made, sets = [], stateDir } = this.#options;
    let tree = lower;
    if (made !== undefined)
      tree = overlay(tree, treeFrom(made.config, { file: made.by }, { isLiteral: true }) as TableNode);
    for (const set of sets) {
      const layer = parseSet(set, this.#mistakes);
      if (layer !== undefined) tree = overlay(tree, layer);
    }
    if (stateDir === undefined) return tree;
    const layer = treeFrom({ state_dir: stateDir }, { file: "--state-dir" }, { isLiteral: true });
    return overlay(tree, layer as TableNode);
  }

  async #checked(original: TableNode, layers: Layers): Promise<LoadedPlan | undefined> {
    const components = findComponents(original, this.#options.stages, this.#mistakes);
    const inputs = components.filter(({ section }) => section !== "sources").map(({ name }) => name);
    const general = generalSchema(inputs);
    const root = shapesOf(wholeShape(general, components));
    this.#mistakes.push(...unknownKeys(original, root, isAboutComponents));
    checkGraph(original, components, this.#mistakes);

    const checkedGeneral = check(original, { path: [], shapes: root, schema: general, without: COMPONENT_SECTIONS });
    this.#mistakes.push(...checkedGeneral.mistakes);
    let tree = checkedGeneral.tree;
    const checked: CheckedComponent[] = [];
    for (const component of components) {
      const result = checkComponent(tree, component, root, this.#mistakes);
      tree = result.tree;
      if (result.component !== undefined) checked.push(result.component);
    }
    checkChannels(tree, components, this.#mistakes);
    reportSharedTargets(tree, checked, this.#options.cwd, this.#mistakes);
    reportFeedback(tree, checked, this.#mistakes);
    if ((this.#options.needs ?? "pipeline") !== "nothing") await reportUnusable(tree, checked, this.#mistakes);
    this.#checkIsPipeline(components);
    if (this.#mistakes.length > 0 || checkedGeneral.value === undefined) return undefined;

    const config = checkedGeneral.value as GeneralConfig;
    const explainer = new Explainer(tree, root, effectiveOf(config, checked));
    return {
      plan: planOf(config, checked, layers.environment),
      explain: (key) => explainer.explain(key),
      warnings: [...channelWarnings(tree), ...sinkWarnings(tree)],
      files: layers.read,
    };
  }

  #checkIsPipeline(components: readonly Component[]): void {
    if ((this.#options.needs ?? "pipeline") !== "pipeline" || this.#mistakes.length > 0) return;
    if (components.length === 0)
      this.#mistakes.push({ message: "the configuration has no sources and no sinks: there is nothing to run" });
  }
}

const keyOfMistake = ({ file, line, key }: Mistake): string => JSON.stringify([file, line, key]);

/** One schema of everything, for looking keys up. */
function wholeShape(general: ReturnType<typeof generalSchema>, components: readonly Component[]): z.ZodType {
  const sections = COMPONENT_SECTIONS.map((section) => {
    const own = components.filter((component) => component.section === section);
    return [section, z.strictObject(Object.fromEntries(own.map((one) => [one.name, componentShape(one)])))];
  });
  return z.strictObject({ ...general.shape, ...Object.fromEntries(sections) });
}

/** What is no component, and no channel of one, is reported with better words where components are found. */
function isAboutComponents(path: KeyPath): boolean {
  if (path[0] === "mpsc_channels") return path[1] === "components" && path.length === 3;
  return path.length === 2 && (COMPONENT_SECTIONS as readonly unknown[]).includes(path[0]);
}

function effectiveOf(config: GeneralConfig, components: readonly CheckedComponent[]): Effective {
  const sections = COMPONENT_SECTIONS.map((section) => {
    const own = components.filter((component) => component.section === section);
    return [section, Object.fromEntries(own.map((component) => [component.name, component.effective]))];
  });
  return { ...config, ...Object.fromEntries(sections) };
}

/** Files in the order in which they first have a mistake, lines ascending; what has no file comes first. */
function inOrder(mistakes: readonly Mistake[]): Mistake[] {
  const files = [...new Set(mistakes.map(({ file }) => file))];
  const rank = (mistake: Mistake): number => (mistake.file === undefined ? -1 : files.indexOf(mistake.file));
  const unique = new Map(mistakes.map((mistake) => [JSON.stringify(mistake), mistake]));
  return [...unique.values()].sort((a, b) => rank(a) - rank(b) || (a.line ?? 0) - (b.line ?? 0));
}
