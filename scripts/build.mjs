// Builds dist/ from src/. Runs from `npm ci` (prepare), so that bin/tailrace.js works straight from a checkout.
//
// tsc makes a module and a declaration of each file; then the modules are bundled (docs/adr/0013): the doors of the
// package, and whatever benches, scripts and tests import from dist/, keep their names; what they share lies once in
// dist/chunks/.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

/** Pure JavaScript of which the program always loads much, in many files. Everything else stays a package of its own. */
const BUNDLED = [
  "@hono/node-server",
  "commander",
  "eslint-visitor-keys",
  "fzstd",
  "hono",
  "picocolors",
  "toml-eslint-parser",
  "zod",
];
/** Entered by name at run time: by bin/tailrace.js, and as the program of a thread. */
const ENTERED = ["cli/main", "handlers/task-thread", "transform-threads/thread"];

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");
const require = createRequire(import.meta.url);

function compile() {
  const tsc = join(dirname(require.resolve("typescript/package.json")), "bin", "tsc");
  // A stale file in dist/ would still be importable after its source is gone.
  rmSync(dist, { recursive: true, force: true });
  // Types are checked by `npm run check`, which is the half of this time that a user of `npm ci` need not wait for.
  const args = [tsc, "-p", join(root, "tsconfig.build.json"), "--noCheck"];
  const built = spawnSync(process.execPath, args, { stdio: ["ignore", 2, 2] });
  if (built.status !== 0) process.exit(built.status ?? 1);
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, path, name }) => join(parentPath ?? path, name));
}

function doors() {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return Object.values(exports).flatMap((door) => /^\.\/dist\/(.+)\.js$/.exec(door.default ?? "")?.[1] ?? []);
}

/** What code of this checkout imports from dist/. */
function importedByOthers() {
  return ["bench", "scripts", "test"]
    .filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => filesBelow(join(root, folder)))
    .filter((path) => path.endsWith(".mjs"))
    .flatMap((path) => [...readFileSync(path, "utf8").matchAll(/from "(?:\.\.\/)+dist\/(.+)\.js"/g)])
    .map(([, name]) => name);
}

function packageOf(id) {
  return id.split("/", id.startsWith("@") ? 2 : 1).join("/");
}

function isExternal(id) {
  return !/^[./]/.test(id) && !BUNDLED.includes(packageOf(id));
}

/** Bundled code is under its own licences, which want to be told. */
function licences() {
  return BUNDLED.map((name) => {
    const folder = join(root, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
    const text = file === undefined ? "" : readFileSync(join(folder, file), "utf8").trim();
    return `${name} ${version} (${license})\n\n${text}\n`;
  }).join(`\n${"-".repeat(80)}\n\n`);
}

async function bundle() {
  const names = new Set([...doors(), ...ENTERED, ...importedByOthers()]);
  const input = Object.fromEntries([...names].map((name) => [name, join(dist, `${name}.js`)]));
  const build = await rolldown({ input, platform: "node", external: isExternal });
  const { output } = await build.generate({
    format: "esm",
    entryFileNames: "[name].js",
    // One folder deep like the rooms of src/: what looks for package.json or a door by `import.meta.url` finds it.
    chunkFileNames: "chunks/[name]-[hash].js",
  });
  await build.close();
  for (const path of filesBelow(dist)) if (/\.js$/.test(path)) rmSync(path);
  for (const { fileName, code } of output) {
    mkdirSync(dirname(join(dist, fileName)), { recursive: true });
    writeFileSync(join(dist, fileName), code);
  }
  writeFileSync(join(dist, "THIRD-PARTY.txt"), licences());
}

compile();
await bundle();
