import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { configJsonSchema } from "../../src/config/json-schema.ts";
import { builtInStages } from "../../src/stages.ts";
import { ServedAgent } from "../integration/served-agent.ts";
import { noSlots } from "../integration/slot-watch.ts";

const root = resolve(fileURLToPath(new URL("../..", import.meta.url)));
const page = readFileSync(join(root, "docs/reference/bounds.md"), "utf8");
const textOf = (file: string) => readFileSync(join(root, file), "utf8");

interface Row {
  readonly [heading: string]: string;
}

/** Every table row of the page, its cells by their headings. */
const rows: readonly Row[] = page
  .split(/\n{2,}/)
  .map((block) => block.split("\n").filter((line) => line.startsWith("| ")))
  .flatMap(([heading = "", ...lines]) =>
    lines.map((line) => Object.fromEntries(cellsOf(heading).map((name, at) => [name, cellsOf(line)[at]!]))),
  );
const channels = rows.filter((row) => row["channel"] !== undefined);
const places = rows.filter((row) => row["channel"] === undefined);

function cellsOf(line: string): string[] {
  return line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());
}

/** `NAME` = value, as often as a cell says it; `file`: where the cell says that a constant is. */
function valuesIn(cell: string): { name: string; value: string; file: string | undefined }[] {
  return [...cell.matchAll(/`([\w.]+)` = ([\w.]+?)(?: in `([^`]+)`)?(?=[\s,;]|$)/g)].map(([, name, value, file]) => ({
    name: name!,
    value: value!,
    file,
  }));
}

const isConstant = (name: string) => /^[A-Z][A-Z0-9_]*$/.test(name);

/** What a constant of a module is, where it is written as a number or as a product of some; undefined: there is none. */
function constantIn(file: string, name: string): number | undefined {
  const written = new RegExp(`^(?:export )?const ${name} = ([\\d_ *]+);`, "m").exec(textOf(file))?.[1];
  return written?.split("*").reduce((product, factor) => product * Number(factor.replaceAll("_", "")), 1);
}

interface Json {
  readonly default?: unknown;
  readonly properties?: { readonly [key: string]: Json };
  readonly additionalProperties?: Json & { readonly oneOf?: readonly Json[] };
}

/** The defaults that a key has; several where stages of several types have it. NAME stands for any name. */
function defaultsOf(key: string): unknown[] {
  let found: readonly Json[] = [configJsonSchema(builtInStages) as Json];
  for (const part of key.split(".")) {
    found = found.flatMap(({ properties, additionalProperties }) => {
      if (part === "NAME") return additionalProperties?.oneOf ?? additionalProperties ?? [];
      return properties?.[part] ?? [];
    });
  }
  return found.map((json) => json.default);
}

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return /(?<!\.test|\.test-kit)\.ts$/.test(entry.name) ? [relative(root, path)] : [];
  });
}

describe("the page of bounds", () => {
  it("has tables that this test can read", () => {
    expect(channels.length).toBeGreaterThan(5);
    expect(places.length).toBeGreaterThan(30);
    for (const row of rows) expect(Object.values(row), JSON.stringify(row)).not.toContain(undefined);
  });

  it("names constants that the code has, with the values that they have there", () => {
    let constants = 0;
    for (const row of rows) {
      const files = [...(row["where"] ?? "").matchAll(/`([^`]+)`/g)].map(([, file]) => file!);
      for (const file of files) expect(existsSync(join(root, file)), file).toBe(true);
      for (const { name, value, file } of Object.values(row).flatMap(valuesIn)) {
        if (!isConstant(name)) continue;
        constants += 1;
        const found = (file === undefined ? files : [file]).map((each) => constantIn(each, name));
        const told = found.filter((each) => each !== undefined);
        expect(told.length, `${name} in ${file ?? files.join(", ")}`).toBeGreaterThan(0);
        for (const each of told) expect(each, name).toBe(Number(value));
      }
    }
    expect(constants).toBeGreaterThan(20);
  });

  it("names configuration keys that there are, with their defaults", () => {
    let keys = 0;
    for (const { name, value } of rows.flatMap((row) => Object.values(row).flatMap(valuesIn))) {
      if (isConstant(name)) continue;
      keys += 1;
      const defaults = defaultsOf(name);
      expect(defaults.length, name).toBeGreaterThan(0);
      for (const each of defaults) expect(String(each), name).toBe(value);
    }
    expect(keys).toBeGreaterThan(20);
  });

  it("names a test for each row, and every test that it names is there", () => {
    for (const row of rows) {
      const tests = row["shown by"]!.split("<br>").map((test) => /^`([^`]+\.test\.ts)` › (.+)$/.exec(test));
      for (const test of tests) {
        expect(test, row["shown by"]).not.toBeNull();
        const [, file, title] = test!;
        const isThere = ['"', "'", "`"].some((quote) => textOf(file!).includes(`${quote}${title}${quote}`));
        expect(isThere, `${file} › ${title}`).toBe(true);
      }
    }
  });

  it("says every channel of an agent with every built-in stage: its sizes and its policy", async () => {
    const sink = createServer((socket) => socket.resume()).listen(0, "127.0.0.1");
    await new Promise((listening) => sink.once("listening", listening));
    const address = `127.0.0.1:${(sink.address() as { port: number }).port}`;
    const own: { readonly [type: string]: object } = {
      map: {},
      filter: { condition: "true" },
      tcp: { address },
      handler: { command: [process.execPath, "-e", "process.stdin.resume()"] },
      http: { url: `http://${address}/` },
      // Nobody is there: a sink of Postgres does not need the server to start.
      "sink postgres": { url: "postgres://127.0.0.1:1/none", table: "rows" },
      "source postgres": { url: "postgres://127.0.0.1:1/none", table: "rows", cursor_column: "id" },
      pgmq: { url: "postgres://127.0.0.1:1/none", queue: "messages" },
    };
    const hasSlots = noSlots === undefined;
    const sources = builtInStages.sources.filter(({ type }) => hasSlots || type !== "timeslots");
    await using served = await ServedAgent.start((folder) => {
      const module = join(folder, "map.mjs");
      writeFileSync(module, "export default (event) => event;\n");
      const special: { readonly [type: string]: object } = {
        ...own,
        map: { module },
        // Nobody is there either: these wait for their servers.
        "source jetstream": { servers: ["nats://127.0.0.1:1"], stream: "S", consumer: "c" },
        "sink jetstream": { servers: ["nats://127.0.0.1:1"], stream: "S", subject: "s" },
        "source kafka": { brokers: ["127.0.0.1:1"], topics: ["t"], group_id: "g" },
        "sink kafka": { brokers: ["127.0.0.1:1"], topic: "t" },
        "source file": { include: [join(folder, "logs", "*.log")] },
        "sink file": { path: join(folder, "out.ndjson") },
        "sink parquet": { path: join(folder, "out.parquet") },
        // Thousands a second: not for the console.
        "sink blackhole": { inputs: [hasSlots ? "source_timeslots" : "transform_filter"] },
      };
      const section = (kind: string, stages: readonly { readonly type: string }[], inputs: object) =>
        Object.fromEntries(
          stages.map(({ type }) => [
            `${kind}_${type}`,
            { type, ...inputs, ...(special[`${kind} ${type}`] ?? special[type]) },
          ]),
        );
      return {
        sources: section("source", sources, {}),
        transforms: section("transform", builtInStages.transforms, { inputs: ["source_file"] }),
        sinks: section("sink", builtInStages.sinks, {
          inputs: builtInStages.transforms
            .map(({ type }) => `transform_${type}`)
            .concat(sources.flatMap(({ type }) => (type === "file" || type === "timeslots" ? [] : [`source_${type}`]))),
        }),
      };
    });
    served.agent.tap("source_file", 1);
    const listed = served.agent.channels();
    const names = new Set<string>();
    for (const { component, channel, capacity, capacity_bytes: bytes, overflow } of listed) {
      const fits = (cell: string, name: string) =>
        cell === name ||
        cell === `\`${name}\`` ||
        (cell === "SOURCE" && name.startsWith("source_") && name !== "source_timeslots") ||
        (cell === "TIMESLOTS" && name === "source_timeslots") ||
        (cell === "COMPONENT" && /^(source|transform|sink)_/.test(name));
      const row = channels.find((each) => fits(each["component"]!, component) && fits(each["channel"]!, channel));
      expect(row, `${component}/${channel} has no row`).toBeDefined();
      names.add(`${row!["component"]}/${row!["channel"]}`);
      expect(row!["messages"], channel).toMatch(new RegExp(` = ${capacity}$`));
      expect(valuesIn(row!["bytes"]!)[0]?.value ?? null, channel).toBe(bytes === null ? null : String(bytes));
      expect(row!["policy"], channel).toMatch(new RegExp(`(\`| = )${overflow}\`?$`));
      expect(row!["why"], channel).not.toBe("");
    }
    expect(listed.length).toBeGreaterThan(10);
    // And none that there is not.
    expect(names.size).toBe(hasSlots ? channels.length : channels.length - 1);
    sink.close();
  });
});

describe("channels", () => {
  it("come from the registry only: nothing but the channel room and the public doors names what makes one", () => {
    const makers = /\b(?:channel|broadcast|ChannelCore)\b/;
    const wrong: string[] = [];
    for (const file of sources(join(root, "src"))) {
      if (file.startsWith("src/channel/") || file.startsWith("src/testing/")) continue;
      const imports = textOf(file).matchAll(/import\s+(?!type\b)([^;"]*?)\s+from\s*"[^"]*\/channel\/[^"]+"/g);
      for (const [, names] of imports) {
        const values = names!.split(/[{},]/).filter((name) => !name.trim().startsWith("type "));
        if (values.some((name) => makers.test(name) || name.includes("*"))) wrong.push(file);
      }
    }
    expect(wrong).toEqual([]);
  });
});
