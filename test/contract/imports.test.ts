import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const src = resolve(dirname(fileURLToPath(import.meta.url)), "../../src");

/**
 * Room -> rooms it may import, beside itself; `(types)`: by `import type` only. A new arrow is a decision: make it here,
 * on purpose.
 *
 * The API shows what the agent is: it knows the agent's types and nothing else of it, and takes no part in running it. The
 * agent, as the composition root, makes the server: so the two know each other, but only one way at run time.
 */
const MAY_IMPORT: { [room: string]: readonly string[] } = {
  errors: [],
  channel: ["errors"],
  record: ["errors"],
  runtime: ["channel", "record", "errors", "telemetry"],
  telemetry: ["record", "errors"],
  checkpoint: ["record", "runtime", "errors"],
  codec: ["record", "runtime", "errors"],
  stage: ["record", "channel", "checkpoint", "runtime", "telemetry", "errors"],
  files: ["channel", "runtime", "record", "checkpoint", "codec", "telemetry", "stage", "errors"],
  timeslots: ["record", "errors"],
  "dead-letters": ["record", "runtime", "checkpoint", "telemetry", "errors"],
  // What both sides of Postgres share: sessions, and positions beside the rows.
  postgres: ["stage", "checkpoint", "runtime", "record", "telemetry", "errors"],
  // How to reach a server, for the source and the sink of its kind.
  nats: ["stage", "runtime", "telemetry", "errors"],
  kafka: ["stage", "runtime", "errors"],
  sources: [
    "nats",
    "kafka",
    "postgres",
    "stage",
    "files",
    "timeslots",
    "codec",
    "runtime",
    "record",
    "channel",
    "telemetry",
    "errors",
  ],
  transforms: ["stage", "codec", "record", "runtime", "errors"],
  // Files that sinks append to: the file sink's own, and the journals of sinks whose files are durable only when closed.
  outputs: ["stage", "codec", "record", "runtime", "checkpoint", "errors"],
  sinks: [
    "nats",
    "kafka",
    "handlers",
    "postgres",
    "stage",
    "outputs",
    "codec",
    "record",
    "runtime",
    "telemetry",
    "checkpoint",
    "errors",
  ],
  readiness: ["channel", "runtime", "stage", "telemetry", "errors"],
  handlers: ["readiness", "channel", "runtime", "record", "stage", "telemetry", "errors"],
  // What `defineConfig` takes follows from what is built in.
  config: ["stages (types)", "stage", "channel", "runtime", "telemetry", "errors"],
  pipeline: ["record", "channel", "runtime", "checkpoint", "telemetry", "stage", "config", "errors"],
  stages: ["sources", "transforms", "sinks", "stage"],
  // Built-in transforms at work in threads: the pipeline knows such a transform by its interface only.
  "transform-threads": [
    "stages",
    "pipeline (types)",
    "config (types)",
    "stage",
    "codec",
    "record",
    "runtime",
    "telemetry",
    "errors",
  ],
  api: ["agent (types)", "config (types)", "runtime", "telemetry", "errors"],
  agent: ["*"],
  // What `tailrace slots` shows, live and as a page; knows time slots and nothing of the agent.
  "slots-view": ["timeslots", "record", "errors"],
  // Tries an agent from outside, as a process: it knows configurations, and nothing of what runs.
  torture: ["testing", "config (types)", "errors"],
  cli: ["*"],
  testing: ["*"],
  index: ["*"],
};

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory()
      ? sources(join(folder, entry.name))
      : entry.name.endsWith(".ts") && !/\.test(-kit)?\.ts$/.test(entry.name)
        ? [join(folder, entry.name)]
        : [],
  );
}

/** First path part below src, without its ending. */
function roomOf(file: string): string {
  return relative(src, file).split("/")[0]!.replace(/\.ts$/, "");
}

/** Relative imports and re-exports of a module, loaded ones too. */
function importsOf(text: string): { readonly path: string; readonly isType: boolean }[] {
  const found = [...text.matchAll(/(?:(?:import|export)\s+(type\s)?[^;"]*?from|import\()\s*"(\.[^"]+)"/g)];
  return found.map(([, type, path]) => ({ path: path!, isType: type !== undefined }));
}

describe("imports", () => {
  it("point to rooms that know less", () => {
    const wrong: string[] = [];
    for (const file of sources(src)) {
      const room = roomOf(file);
      const allowed = MAY_IMPORT[room];
      if (allowed === undefined) wrong.push(`${relative(src, file)}: the room "${room}" is not in the picture`);
      for (const { path, isType } of importsOf(readFileSync(file, "utf8"))) {
        const target = roomOf(resolve(dirname(file), path));
        if (target === room || allowed === undefined || allowed.includes("*") || allowed.includes(target)) continue;
        if (isType && allowed.includes(`${target} (types)`)) continue;
        wrong.push(`${relative(src, file)} imports ${path}: ${room} may not know ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it("of one leaf never reach another leaf", () => {
    const wrong: string[] = [];
    for (const kind of ["sources", "transforms", "sinks"]) {
      for (const file of sources(join(src, kind))) {
        const leaf = relative(join(src, kind), file).split("/")[0]!.replace(/\.ts$/, "");
        for (const match of readFileSync(file, "utf8").matchAll(/from\s*"(\.[^"]+)"/g)) {
          const target = resolve(dirname(file), match[1]!);
          if (roomOf(target) !== kind) continue;
          const other = relative(join(src, kind), target).split("/")[0]!.replace(/\.ts$/, "");
          // A stage that outgrew its file may use files named after it: filter -> condition is listed here.
          if (other !== leaf && !(leaf === "filter" && other.startsWith("condition")) && !leaf.startsWith("condition"))
            wrong.push(`${relative(src, file)} imports ${match[1]}`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });
});
