import { ConfigError, type Mistake } from "../errors.ts";
import { type ConfigFiles, reasonOf } from "./files.ts";
import { KeyLines } from "./key-lines.ts";
import { suggestion } from "./nearest.ts";
import { parseToml, parseTomlKey, parseTomlValue } from "./toml.ts";
import { emptyTable, joinWithinLayer, MAX_DEPTH, overlay, type TableNode, treeFrom } from "./tree.ts";

/*
 * The layers of a configuration, lowest first. Within one layer a key may stand once; a higher layer wins.
 *
 *   -c tree/                            -c mine.toml      a command's own      --set a.b=v
 *     base/*.toml  environments/ENV/*.toml
 *     [one layer]  [one layer]          [one layer]       [one layer]          [one layer each]
 */

/** Environments that need no folder of their own. */
const KNOWN_ENVIRONMENTS = ["test", "development", "production"] as const;

/** What is read where no `-c` is given. */
export const DEFAULT_FILE = "tailrace.toml";

export interface LayerOptions {
  /** `-c`, in order: files, folders, and `.ts` or `.js` modules. */
  readonly configs: readonly string[];
  /** `-e`. */
  readonly environment?: string | undefined;
  readonly env: { readonly [name: string]: string | undefined };
  readonly files: ConfigFiles;
}

export interface Layers {
  readonly tree: TableNode;
  readonly environment: string;
  /** Every file that was read, in order. */
  readonly read: readonly string[];
  /** False: there was no `-c` and no `./tailrace.toml`. */
  readonly wasFound: boolean;
}

/** Reads and merges every layer; mistakes are added to `mistakes`, and what could be read is merged all the same. */
export async function readLayers(options: LayerOptions, mistakes: Mistake[]): Promise<Layers> {
  const environment = chooseEnvironment(options, mistakes);
  const reader = new LayerReader(options.files, environment, mistakes);
  let configs = options.configs;
  if (configs.length === 0) configs = (await kindOf(options.files, DEFAULT_FILE)) === undefined ? [] : [DEFAULT_FILE];
  for (const path of configs) await reader.readConfig(path);
  if (!isKnown(environment) && !reader.hasEnvironment && isUsable(environment)) {
    const meant = suggestion(environment, [...KNOWN_ENVIRONMENTS, ...reader.environments]);
    const file = environmentOrigin(options);
    mistakes.push({
      file,
      message: `environment "${environment}": no configuration tree has a folder environments/${environment}; ${meant}`,
    });
  }
  return { tree: reader.tree, environment, read: reader.read, wasFound: configs.length > 0 };
}

const isKnown = (environment: string): boolean => (KNOWN_ENVIRONMENTS as readonly string[]).includes(environment);

/** One folder name: no way to leave `environments/`. */
const isUsable = (environment: string): boolean => /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(environment);

const environmentOrigin = (options: LayerOptions): string =>
  options.environment === undefined ? "TAILRACE_ENV" : "command line";

function chooseEnvironment(options: LayerOptions, mistakes: Mistake[]): string {
  // An empty variable counts as unset, as in `${VAR:-default}`.
  const environment = options.environment ?? (options.env["TAILRACE_ENV"] || "development");
  if (!isUsable(environment))
    mistakes.push({
      file: environmentOrigin(options),
      message: `environment "${environment}": give the name of a folder in environments/, such as production`,
    });
  return environment;
}

async function kindOf(files: ConfigFiles, path: string): Promise<"file" | "folder" | undefined> {
  try {
    return await files.kind(path);
  } catch {
    // What is there but cannot be looked at is reported when it is read.
    return "file";
  }
}

class LayerReader {
  readonly #files: ConfigFiles;
  readonly #environment: string;
  readonly #mistakes: Mistake[];
  readonly read: string[] = [];
  readonly environments: string[] = [];
  hasEnvironment = false;
  tree: TableNode = emptyTable({ file: "configuration" });

  constructor(files: ConfigFiles, environment: string, mistakes: Mistake[]) {
    this.#files = files;
    this.#environment = environment;
    this.#mistakes = mistakes;
  }

  async readConfig(path: string): Promise<void> {
    if (path === "") {
      this.#mistakes.push({ file: "command line", message: "-c: give a file or a folder" });
      return;
    }
    const kind = await kindOf(this.#files, path);
    if (kind === undefined) this.#mistakes.push({ file: path, message: "there is no such file or folder" });
    else if (kind === "folder") await this.#readTree(path);
    else this.#addLayer([await this.#readFile(path)]);
  }

  async #readTree(folder: string): Promise<void> {
    const root = folder.replace(/(?<=.)\/+$/, "");
    const base = await this.#readFolder(`${root}/base`);
    const environments = `${root}/environments`;
    if (base === undefined && (await kindOf(this.#files, environments)) !== "folder") {
      const message = "this folder is no configuration tree: it has neither base/ nor environments/";
      this.#mistakes.push({ file: folder, message });
      return;
    }
    this.#addLayer(base ?? []);
    this.environments.push(...(await this.#listOrNothing(environments)));
    if (!isUsable(this.#environment)) return;
    const own = await this.#readFolder(`${environments}/${this.#environment}`);
    if (own === undefined) return;
    this.hasEnvironment = true;
    this.#addLayer(own);
  }

  async #listOrNothing(folder: string): Promise<string[]> {
    return (await kindOf(this.#files, folder)) === "folder" ? this.#files.list(folder).catch(() => []) : [];
  }

  /** Every `*.toml` of a folder in byte order (hidden files are left out, as by a shell); undefined if it is none. */
  async #readFolder(folder: string): Promise<(TableNode | undefined)[] | undefined> {
    if ((await kindOf(this.#files, folder)) !== "folder") return undefined;
    let names: string[];
    try {
      names = await this.#files.list(folder);
    } catch (thrown) {
      this.#mistakes.push({ file: folder, message: `cannot be read: ${reasonOf(thrown)}` });
      return [];
    }
    const chosen = names.filter((name) => name.endsWith(".toml") && !name.startsWith("."));
    chosen.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const tables: (TableNode | undefined)[] = [];
    for (const name of chosen) {
      const path = `${folder}/${name}`;
      if ((await kindOf(this.#files, path)) !== "folder") tables.push(await this.#readFile(path));
    }
    return tables;
  }

  async #readFile(path: string): Promise<TableNode | undefined> {
    this.read.push(path);
    try {
      if (/\.[cm]?[jt]s$/.test(path)) return await this.#readModule(path);
      const bytes = await this.#files.read(path);
      const parsed = parseToml(decode(bytes), path);
      this.#mistakes.push(...parsed.mistakes);
      return parsed.table;
    } catch (thrown) {
      if (thrown instanceof ConfigError) {
        // A module that cannot be loaded says itself where and why.
        this.#mistakes.push(...thrown.mistakes);
        return undefined;
      }
      const message = thrown instanceof NotUtf8 ? thrown.message : `cannot be read: ${reasonOf(thrown)}`;
      this.#mistakes.push({ file: path, message });
    }
    return undefined;
  }

  async #readModule(path: string): Promise<TableNode | undefined> {
    const lines = new KeyLines();
    const module = await this.#files.load(path, lines);
    const tree = treeFrom(module["default"], { file: path }, { lines });
    if (tree?.kind === "table") return tree;
    const message = "export the configuration as default: export default defineConfig({ ... })";
    this.#mistakes.push({ file: path, message });
    return undefined;
  }

  #addLayer(tables: readonly (TableNode | undefined)[]): void {
    let layer: TableNode | undefined;
    for (const table of tables) {
      if (table === undefined) continue;
      layer = layer === undefined ? table : joinWithinLayer(layer, table, this.#mistakes);
    }
    if (layer !== undefined) this.tree = overlay(this.tree, layer);
  }
}

class NotUtf8 extends Error {}

const utf8 = new TextDecoder("utf-8", { fatal: true });

function decode(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new NotUtf8("the file is not UTF-8, which TOML has to be");
  }
}

/** `--set a.b.c=v` as a layer: `v` is a TOML value, else a string. */
export function parseSet(text: string, mistakes: Mistake[]): TableNode | undefined {
  const place = { file: "--set" };
  const equals = endOfKey(text);
  const path = equals < 0 ? undefined : parseTomlKey(text.slice(0, equals).trim());
  if (path === undefined || path.length > MAX_DEPTH) {
    // The text is not shown whole: what follows the equals sign may be a secret.
    const shown = text.split("=", 1)[0]!.slice(0, 100);
    mistakes.push({ ...place, message: `"${shown}" is no setting; write --set key.of.it=value` });
    return undefined;
  }
  const setText = text.slice(equals + 1);
  const parsed = parseTomlValue(setText, place);
  let node = parsed ?? ({ kind: "value", place, value: setText } as const);
  if (node.kind === "value") node = { ...node, setText };
  for (const key of [...path].reverse()) node = { kind: "table", place, entries: new Map([[key, node]]) };
  return node.kind === "table" ? node : undefined;
}

/** The first equals sign outside of quotes; -1 if there is none. */
function endOfKey(text: string): number {
  let quote = "";
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]!;
    if (quote !== "") {
      if (character === "\\" && quote === '"') at += 1;
      else if (character === quote) quote = "";
    } else if (character === '"' || character === "'") quote = character;
    else if (character === "=") return at;
  }
  return -1;
}
