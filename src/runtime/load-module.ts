import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { JitiOptions } from "jiti";
import { ConfigError, errnoOf, toError } from "../errors.ts";

/**
 * Loads a module of the user: `shape.ts`, `tailrace.config.ts`. TypeScript (also enums and type-only imports) and
 * JavaScript, in both module systems, on every Node that Tailrace runs on; relative imports may name `.ts` files;
 * `import ... from "tailrace"` is this very package, wherever the user's file lies. Nothing is written to disk.
 *
 * Each call reads the files anew, so that a reload sees what was edited; packages from `node_modules`, and files that say
 * `.mjs` or `.cjs`, are loaded by Node itself and stay as they are until the process ends.
 *
 * @param path absolute, or from the working directory.
 * @param onSyntax gets the syntax of this one file before it runs; not called for what Node itself loads.
 * @returns the exports by name; the default export is `default`.
 * @throws ConfigError with the file, and the line where it is known: it is not there, is no valid code, or threw.
 */
export function loadModule(
  path: string,
  onSyntax?: (syntax: ModuleSyntax) => void,
): Promise<{ readonly [name: string]: unknown }> {
  // One after the other: loading one module fills and empties a cache that the next one must not meet half full.
  const loaded = loading.then(() => load(resolve(path), onSyntax));
  loading = loaded.catch(() => {});
  return loaded;
}

let loading: Promise<unknown> = Promise.resolve();

/** A node of a syntax tree, as Babel makes it. */
export interface SyntaxNode {
  readonly type: string;
  /** 1-based. */
  readonly loc?: { readonly start: { readonly line: number } } | null;
  readonly [field: string]: unknown;
}

export interface ModuleSyntax {
  /** The statements of the module. */
  readonly body: readonly SyntaxNode[];
  /** What the name stands for, where nothing can have changed it on the way: it is set once and used once. */
  valueOf(name: string): SyntaxNode | undefined;
}

async function load(
  file: string,
  onSyntax: ((syntax: ModuleSyntax) => void) | undefined,
): Promise<{ readonly [name: string]: unknown }> {
  const { createJiti } = await import("jiti");
  const plugins = onSyntax === undefined ? [] : [syntaxPlugin(await textOf(file), onSyntax)];
  const jiti = createJiti(pathToFileURL(file).href, { ...OPTIONS, transformOptions: { babel: { plugins } } });
  const before = new Set(Object.keys(moduleCache));
  try {
    return await jiti.import<{ readonly [name: string]: unknown }>(file);
  } catch (thrown) {
    throw new ConfigError([mistakeOf(file, thrown)]);
  } finally {
    for (const loaded of Object.keys(moduleCache)) {
      if (!before.has(loaded) && !loaded.includes("/node_modules/")) delete moduleCache[loaded];
    }
  }
}

/** Undefined: it cannot be read, which loading it tells better. */
const textOf = (file: string): Promise<string | undefined> => readFile(file, "utf8").catch(() => undefined);

/** The part of Babel's plugins that is used here. */
interface Program {
  readonly node: { readonly body: readonly SyntaxNode[] };
  readonly scope: {
    getBinding(
      name: string,
    ):
      | { readonly constant: boolean; readonly references: number; readonly path: { readonly node: SyntaxNode } }
      | undefined;
  };
}

/** Babel is told no file names; the file is known by its text among all that it imports. */
function syntaxPlugin(text: string | undefined, onSyntax: (syntax: ModuleSyntax) => void) {
  const Program = ({ node, scope }: Program, { file }: { readonly file: { readonly code: string } }): void => {
    if (file.code !== text) return;
    onSyntax({
      body: node.body,
      valueOf(name) {
        const binding = scope.getBinding(name);
        if (binding?.constant !== true || binding.references !== 1) return undefined;
        const { id, init } = binding.path.node as SyntaxNode & { readonly id?: SyntaxNode; readonly init?: SyntaxNode };
        return id?.type === "Identifier" ? (init ?? undefined) : undefined;
      },
    });
  };
  return () => ({ visitor: { Program } });
}

/** Node's cache of CommonJS modules; the loader keeps what it has loaded there too. */
const moduleCache = createRequire(import.meta.url).cache;

const OPTIONS: JitiOptions = {
  // No files in node_modules/.cache or in the temporary folder: a log agent writes where it was told to.
  fsCache: false,
  interopDefault: false,
  alias: ownPackage(),
};

/** Our own doors by name: an agent that is installed globally is not in reach of the user's folder. */
function ownPackage(): { [specifier: string]: string } {
  // `.js` in the package, `.ts` in the source tree.
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const door = (path: string) => fileURLToPath(new URL(`../${path}.${extension}`, import.meta.url));
  const aliases: { [specifier: string]: string } = {};
  for (const room of ["channel", "checkpoint", "files", "testing"]) aliases[`tailrace/${room}`] = door(`${room}/index`);
  aliases["tailrace"] = door("index");
  return aliases;
}

function mistakeOf(file: string, thrown: unknown): { file: string; line?: number; message: string } {
  const error = toError(thrown);
  const errno = errnoOf(error);
  if (
    (errno === "ENOENT" || errno === "MODULE_NOT_FOUND" || errno === "ERR_MODULE_NOT_FOUND") &&
    error.message.includes(`'${file}'`)
  ) {
    return { file, message: "there is no such file" };
  }
  // A syntax error says ` file:line:column` in its message, anything thrown while running in its stack.
  const place =
    /^\s*(\/.+):(\d+):\d+$/m.exec(error.message) ??
    /\(?(?:file:\/\/)?(\/[^():\n]+\.[cm]?[jt]sx?):(\d+):\d+\)?/.exec(error.stack ?? "");
  const message = error.message.split("\n")[0]!.trim();
  if (place !== null && resolve(place[1]!) === file)
    return { file, line: Number(place[2]), message: `it could not be loaded: ${message}` };
  const elsewhere = place !== null && /^\s*\//m.test(error.message) ? ` (${place[1]}:${place[2]})` : "";
  return { file, message: `it could not be loaded: ${message}${elsewhere}` };
}
