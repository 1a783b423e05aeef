import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { loadSample, mistakesOf, SMALL, sampleStages } from "../../test/config/sample-stages.ts";
import { defineSink } from "../stage/index.ts";
import { defineConfig } from "./define-config.ts";
import { loadPlan } from "./load.ts";

const one = { configs: ["a.toml"] };

describe("loadPlan", () => {
  it("reads ./tailrace.toml where no -c is given", async () => {
    const { plan, files } = await loadSample({ "tailrace.toml": SMALL });
    expect(files).toEqual(["tailrace.toml"]);
    expect(plan.sources.map(({ name }) => name)).toEqual(["app"]);
    expect(await mistakesOf({})).toEqual([
      "there is no ./tailrace.toml; name a configuration with -c FILE or -c FOLDER",
    ]);
  });

  it("fills in the built-in defaults of every section", async () => {
    const { plan } = await loadSample({ "a.toml": SMALL }, one);
    expect(plan).toMatchObject({
      stateDir: "./.tailrace",
      environment: "development",
      api: { enabled: true, address: "127.0.0.1:7717", token: undefined },
      shutdown: { gracefulTimeoutMs: 10000, onSignalTimeoutMs: 0, sinkGraceMs: 0 },
      checkpoint: {
        commitIntervalMs: 100,
        commitBytes: 67108864,
        maxUncommittedBytes: 268435456,
        maxUncommittedMs: 30000,
      },
    });
    expect(plan.channels.totalBytes).toBe(16777216);
    expect(plan.channels.warningThreshold).toBe(0.8);
    expect(plan.channels.tailerPayload).toEqual({
      bufferSize: 1024,
      bufferBytes: 67108864,
      overflow: "block",
      sendTimeoutMs: 0,
    });
    expect(plan.channels.supervisorErrors.bufferSize).toBe(64);
    expect(plan.channels.input("out")).toEqual({
      bufferSize: 1000,
      bufferBytes: 67108864,
      overflow: "block",
      sendTimeoutMs: 0,
    });
    expect(plan.sinks[0]).toMatchObject({
      inputs: ["app"],
      backfill: false,
      previousNames: [],
      retry: { initialMs: 250, maxMs: 30000, maxAttempts: 0 },
    });
    expect(plan.sources[0]?.options).toEqual({
      include: ["/var/log/app/*.log"],
      archives: true,
      max_line_bytes: 1048576,
    });
  });

  it("overlays base with the environment's folder, key by key; arrays replace", async () => {
    const files = {
      "tree/base/a.toml": SMALL,
      "tree/base/b.toml": "[shutdown]\ngraceful_timeout_ms = 1\nsink_grace_ms = 2\n",
      "tree/environments/test/x.toml": '[shutdown]\nsink_grace_ms = 3\n[sources.app]\ninclude = ["/x"]\n',
      "tree/environments/production/x.toml": "[shutdown]\nsink_grace_ms = 4\n",
    };
    const { plan } = await loadSample(files, { configs: ["tree"], environment: "test" });
    expect(plan.shutdown).toMatchObject({ gracefulTimeoutMs: 1, sinkGraceMs: 3 });
    expect(plan.sources[0]?.options).toMatchObject({ include: ["/x"] });
    const production = await loadSample(files, { configs: ["tree/"], env: { TAILRACE_ENV: "production" } });
    expect(production.plan).toMatchObject({ environment: "production", shutdown: { sinkGraceMs: 4 } });
    const chosen = await loadSample(files, {
      configs: ["tree"],
      environment: "test",
      env: { TAILRACE_ENV: "production" },
    });
    expect(chosen.plan.environment).toBe("test");
    const none = await loadSample(files, { configs: ["tree"], env: { TAILRACE_ENV: "" } });
    expect(none.plan).toMatchObject({ environment: "development", shutdown: { sinkGraceMs: 2 } });
  });

  it("reads the files of a folder in byte order", async () => {
    const files = {
      "tree/base/b.toml": "",
      "tree/base/a.toml": "",
      "tree/base/Z.toml": SMALL,
      "tree/base/.h.toml": "?",
      "tree/base/n.txt": "?",
    };
    expect((await loadSample(files, { configs: ["tree"] })).files).toEqual([
      "tree/base/Z.toml",
      "tree/base/a.toml",
      "tree/base/b.toml",
    ]);
  });

  it("lets a later -c win, --set above all files and --state-dir above --set", async () => {
    const files = { "a.toml": `state_dir = "a"\n${SMALL}`, "b.toml": 'state_dir = "b"\n[api]\nenabled = false\n' };
    const both = { configs: ["a.toml", "b.toml"] };
    expect((await loadSample(files, both)).plan).toMatchObject({ stateDir: "b", api: { enabled: false } });
    expect((await loadSample(files, { ...both, sets: ["state_dir=c", "api.enabled=true"] })).plan).toMatchObject({
      stateDir: "c",
      api: { enabled: true },
    });
    expect((await loadSample(files, { ...both, sets: ["state_dir=c"], stateDir: "d" })).plan.stateDir).toBe("d");
  });

  it("takes a --set value as TOML, else as a string, and as a string where the key wants one", async () => {
    const sets = [
      "sinks.out.path=/x=y",
      'sources.app.include=["/a", "/b"]',
      "api.token=123",
      "shutdown={sink_grace_ms = 7}",
      'sinks."out".encoding="raw"',
    ];
    const { plan } = await loadSample({ "a.toml": SMALL }, { ...one, sets });
    expect(plan.sinks[0]?.options).toEqual({ path: "/x=y", encoding: "raw" });
    expect(plan.sources[0]?.options).toMatchObject({ include: ["/a", "/b"] });
    expect(plan.api.token).toBe("123");
    expect(plan.shutdown).toMatchObject({ gracefulTimeoutMs: 10000, sinkGraceMs: 7 });
  });

  it("substitutes variables inside strings, and gives a whole substitution the type of its key", async () => {
    const path = `/data/\${NAME:-x}/\${EMPTY:-\${NAME:-deep}}.$\${raw}`;
    const toml = `${SMALL.replace("/data/out.ndjson", () => path)}
[shutdown]
sink_grace_ms = "\${GRACE}"
graceful_timeout_ms = "\${TIMEOUT:-5}"
[api]
enabled = "\${API}"
address = "unix:/\${NAME:-n}"
token = "\${TOKEN}"
`;
    const { plan } = await loadSample(
      { "a.toml": toml },
      { ...one, env: { GRACE: "12", API: "false", EMPTY: "", TOKEN: "77" } },
    );
    expect(plan.sinks[0]?.options).toMatchObject({ path: `/data/x/deep.\${raw}` });
    expect(plan.shutdown).toMatchObject({ sinkGraceMs: 12, gracefulTimeoutMs: 5 });
    expect(plan.api).toEqual({ enabled: false, address: "unix:/n", token: "77", allowedHosts: [] });
  });

  it("refuses an unset variable without default, and text that is no substitution", async () => {
    const toml = `${SMALL}[api]
address = "\${HOST}:1"
token = "\${no-name}"
[shutdown]
sink_grace_ms = "1\${N:-2}"
`;
    expect(await mistakesOf({ "a.toml": toml }, one)).toEqual([
      `a.toml:11: api.address: environment variable HOST is not set; set it, or give a default: \${HOST:-something}`,
      `a.toml:12: api.token: \`\${no-name}\` is no substitution; write \${NAME} or \${NAME:-default} (a plain \`\${\` is written \`$\${\`)`,
      'a.toml:14: shutdown.sink_grace_ms: is "12"; give a whole number from 0',
    ]);
  });

  it("reads tailrace.config.ts as it reads the TOML", async () => {
    const config = defineConfig({
      state_dir: "./s",
      sources: { app: { type: "file", include: [`\${LOGS}/*.log`] } },
      sinks: { out: { type: "file", inputs: ["app"], path: "o" } },
    });
    const modules = { "tailrace.config.ts": { default: config } };
    const options = { configs: ["tailrace.config.ts"], modules, env: { LOGS: "/l" } };
    const { plan } = await loadSample({}, options);
    expect(plan).toMatchObject({ stateDir: "./s", sources: [{ options: { include: ["/l/*.log"] } }] });
    const wrong = { "c.js": { default: { api: { adress: "x" } } } };
    expect(await mistakesOf({}, { configs: ["c.js"], modules: wrong })).toEqual([
      "c.js: api.adress: unknown key; did you mean `address`?",
    ]);
    expect(await mistakesOf({}, { configs: ["c.js"], modules: { "c.js": {} } })).toEqual([
      "c.js: export the configuration as default: export default defineConfig({ ... })",
    ]);
  });

  it("takes a configuration that a command makes, word for word", async () => {
    const made = {
      by: "command line",
      config: {
        sources: { in: { type: "file", include: [`/\${odd}/*`] } },
        sinks: { out: { type: "file", inputs: ["in"], path: "o" } },
      },
    };
    const { plan } = await loadSample({ "tailrace.toml": "broken" }, { made, sets: ["api.enabled=false"] });
    expect(plan).toMatchObject({ api: { enabled: false }, sources: [{ options: { include: [`/\${odd}/*`] } }] });
  });

  it("leaves functions and instances in a library user's options as they are", async () => {
    const client = new (class Client {})();
    const send = () => client;
    const definition = defineSink({
      type: "own",
      summary: "Takes objects.",
      options: z.strictObject({ client: z.custom((one) => one === client), send: z.custom<() => unknown>() }),
      guarantee: "at_least_once",
      open: () => Promise.reject(new Error("never opened")),
    });
    const config = {
      sources: { in: { type: "stdin" } },
      sinks: { out: { type: "own", inputs: ["in"], client, send } },
    };
    const stages = { ...sampleStages, sinks: [definition] };
    const { plan, explain } = await loadPlan({ stages, env: {}, cwd: "/", made: { by: "pipeline()", config } });
    expect(plan.sinks[0]?.options).toEqual({ client, send });
    expect(explain("sinks.out.client").keys[0]?.value).toBe("[Client]");
  });

  it("orders transforms behind what they read from", async () => {
    const toml = `
[transforms.c]
type = "json"
inputs = ["b", "a"]
[transforms.b]
type = "json"
inputs = ["a"]
[transforms.a]
type = "json"
inputs = ["app"]
${SMALL.replace('["app"]', '["c"]')}`;
    const { plan } = await loadSample({ "a.toml": toml }, one);
    expect(plan.transforms.map(({ name }) => name)).toEqual(["a", "b", "c"]);
  });

  it("gives drop_policy to channels with neither a policy of their own nor a designed one", async () => {
    const toml = `${SMALL}
[mpsc_channels.overflow_policy]
drop_policy = "drop_oldest"
[sinks.two]
type = "http"
inputs = ["app"]
url = "http://127.0.0.1/"
[mpsc_channels.components.two]
overflow = "error"
send_timeout_ms = 5
`;
    const { plan } = await loadSample({ "a.toml": toml }, one);
    expect(plan.channels.input("out").overflow).toBe("drop_oldest");
    expect(plan.channels.input("two")).toMatchObject({ overflow: "error", sendTimeoutMs: 5 });
    expect(plan.channels.tailerPayload.overflow).toBe("block");
  });
});

describe("mistakes", () => {
  const lines = (toml: string) => mistakesOf({ "a.toml": toml }, one);

  it("are told all at once, each with file, line, key and what was meant", async () => {
    const mistakes = await lines(`stat_dir = "x"
[api]
enabled = 3
[sources.app]
type = "fiel"
[sinks.out]
type = "file"
inputs = ["ap"]
paht = "x"
[mpsc_channels.components.out]
buffer_size = 0
[mpsc_channels.shared.ffi]
ruby_event_buffer_size = 1.5
[mpsc_channels.tap]
buffer_size = "many"
`);
    expect(mistakes).toEqual([
      "a.toml:1: stat_dir: unknown key; did you mean `state_dir`?",
      "a.toml:3: api.enabled: is 3; give true or false",
      'a.toml:5: sources.app.type: is "fiel"; no source has this type; did you mean `file`?',
      "a.toml:6: sinks.out.path: is missing; give a string that is not empty",
      'a.toml:8: sinks.out.inputs[0]: there is no component "ap"; did you mean `app`?',
      "a.toml:9: sinks.out.paht: unknown key; did you mean `path`?",
      "a.toml:11: mpsc_channels.components.out.buffer_size: is 0; give a whole number from 1 up to 16777216",
      "a.toml:13: mpsc_channels.shared.ffi.ruby_event_buffer_size: is 1.5; give a whole number from 1 up to 16777216",
      'a.toml:15: mpsc_channels.tap.buffer_size: is "many"; give a whole number from 1 up to 16777216',
    ]);
  });

  it("always name the nearest neighbour of an unknown key", async () => {
    expect(await lines(`zzzzzzzzzz = 1\n${SMALL}`)).toEqual([
      expect.stringMatching(/^a\.toml:1: zzzzzzzzzz: unknown key; the nearest is `\w+`/),
    ]);
    expect(await lines(`${SMALL}tyep = "x"`)).toEqual(["a.toml:10: sinks.out.tyep: unknown key; did you mean `type`?"]);
  });

  it("tell an overlay without its prefix the full name of the section", async () => {
    const files = {
      "tree/base/a.toml": SMALL,
      "tree/environments/test/m.toml":
        "# x\n[task_readiness.event_channel]\nbuffer_size = 100\n\n[api.event_stream]\nbuffer_size = 1\n[sources.tailer_manager]\npayload_buffer_size = 2\n",
    };
    expect(await mistakesOf(files, { configs: ["tree"], environment: "test" })).toEqual([
      "tree/environments/test/m.toml:2: task_readiness.event_channel: this is the section of a channel without its prefix; write [mpsc_channels.task_readiness.event_channel]",
      "tree/environments/test/m.toml:5: api.event_stream: this is the section of a channel without its prefix; write [mpsc_channels.api.event_stream]",
      "tree/environments/test/m.toml:7: sources.tailer_manager: this is the section of a channel without its prefix; write [mpsc_channels.sources.tailer_manager]",
    ]);
    expect(await lines(`task_readiness.event_channel.buffer_size = 1\n${SMALL}`)).toEqual([
      "a.toml:1: task_readiness.event_channel: this is the section of a channel without its prefix; write [mpsc_channels.task_readiness.event_channel]",
    ]);
  });

  it("tell a size in its old place its new full name", async () => {
    expect(
      await lines(`${SMALL}
[event_systems.task_readiness.metadata.event_channel]
max_retries = 4
buffer_size = 100
send_timeout_ms = 5
backoff = { initial_ms = 1, jitter = 0.5 }
[event_systems.worker.metadata.in_process_events]
broadcast_buffer_size = 9
`),
    ).toEqual([
      "a.toml:13: event_systems.task_readiness.metadata.event_channel.buffer_size: sizes of channels have moved; write mpsc_channels.task_readiness.event_channel.buffer_size",
      "a.toml:14: event_systems.task_readiness.metadata.event_channel.send_timeout_ms: sizes of channels have moved; write mpsc_channels.task_readiness.event_channel.send_timeout_ms",
      "a.toml:17: event_systems.worker.metadata.in_process_events.broadcast_buffer_size: sizes of channels have moved; write mpsc_channels.worker.in_process_events.broadcast_buffer_size",
    ]);
  });

  it("spell out a cycle, and name orphans", async () => {
    const mistakes = await lines(`${SMALL}
[transforms.a]
type = "json"
inputs = ["b"]
[transforms.b]
type = "json"
inputs = ["a", "app"]
[sources.lone]
type = "stdin"
[sinks.none]
type = "file"
path = "n"
[sinks.chained]
type = "file"
path = "m"
inputs = ["out", "app", "app"]
`);
    expect(mistakes).toEqual([
      expect.stringMatching(
        /^a\.toml:\d+: transforms\.[ab]\.inputs: the transforms read from each other in a circle: (a -> b -> a|b -> a -> b)$/,
      ),
      "a.toml:17: sources.lone: nobody reads this source; name it in the inputs of a transform or a sink, or remove it",
      'a.toml:19: sinks.none.inputs: this sink reads from nothing; name its inputs, such as ["app"]',
      'a.toml:25: sinks.chained.inputs[0]: "out" is a sink; only sources and transforms can be read from',
      'a.toml:25: sinks.chained.inputs[2]: "app" is named twice',
    ]);
  });

  it("do not make two mistakes out of one slip", async () => {
    expect(await lines(SMALL.replace('["app"]', '"app"'))).toEqual([
      'a.toml:8: sinks.out.inputs: is "app"; give a list, each item a string',
    ]);
  });

  it("refuse a key that one layer sets twice, and name both places", async () => {
    const files = { "t/base/a.toml": `${SMALL}[api]\nenabled = true\n`, "t/base/b.toml": "[api]\nenabled = true\n" };
    expect(await mistakesOf(files, { configs: ["t"] })).toEqual([
      "t/base/b.toml:2: api.enabled: is set twice in one layer; it stands in t/base/a.toml:11 already, remove one of the two",
    ]);
    expect(await lines(`${SMALL}[api]\nenabled = true\nenabled = true\n`)).toEqual([
      "a.toml:12: api.enabled: is set twice in one layer; it stands in a.toml:11 already, remove one of the two",
    ]);
  });

  it("refuse every key and table that stands twice in a file, and say what else is wrong there", async () => {
    const text = `state_dir = "a"
state_dir = "b"
[sources.app]
type = "file"
include = ["x"]
include = ["y"]
[sinks.out]
type = "file"
inputs = ["app"]
path = "o"
"p\\u0061th".is = "p"
[sources.app]
archives = "no"
type = "stdin"
[api]
enabled = true
foo = 1
enabled = { a = 1, a = 2 }
`;
    expect(await lines(text)).toEqual([
      "a.toml:2: state_dir: is set twice in one layer; it stands in a.toml:1 already, remove one of the two",
      "a.toml:6: sources.app.include: is set twice in one layer; it stands in a.toml:5 already, remove one of the two",
      "a.toml:11: sinks.out.path: is set twice in one layer; it stands in a.toml:10 already, remove one of the two",
      "a.toml:12: sources.app: this table begins twice in one file; it stands in a.toml:3 already, make them one",
      expect.stringMatching(/^a\.toml:13: sources\.app\.archives: is "no"; give true or false/),
      "a.toml:14: sources.app.type: is set twice in one layer; it stands in a.toml:4 already, remove one of the two",
      expect.stringMatching(/^a\.toml:17: api\.foo: unknown key/),
      "a.toml:18: api.enabled.a: is set twice in one layer; it stands in a.toml:18 already, remove one of the two",
      "a.toml:18: api.enabled: is set twice in one layer; it stands in a.toml:16 already, remove one of the two",
    ]);
  });

  it("name what stands twice also where the syntax hides the rest", async () => {
    const twice = Array.from({ length: 120 }, (_, n) => `k${n} = 1\nk${n} = 2\n`).join("");
    expect(await lines("[a]\n[b]\n[a]\nc = \n")).toEqual([
      "a.toml:3: `a` is defined a second time in this file; write it once",
      "a.toml:5:1: the value is missing; write `key = value`",
    ]);
    expect(await lines(twice)).toHaveLength(101);
  });

  it("refuse a name that two components share", async () => {
    expect(await lines(`${SMALL}[transforms.app]\ntype = "json"\ninputs = ["app"]\n`)).toContain(
      "a.toml:10: transforms.app: the name is taken by sources.app (a.toml:2); names are unique across all components",
    );
  });

  it("refuse two file sinks that meet in one file", async () => {
    expect(
      await lines(`${SMALL}[sinks.two]\ntype = "file"\ninputs = ["app"]\npath = "../data/./out.ndjson"\n`),
    ).toEqual(["a.toml:13: sinks.two.path: sinks.out (a.toml:6) writes there already; give each its own target"]);
  });

  it("refuse a sink whose file one of its own sources reads, through transforms too", async () => {
    const fed = (path: string, inputs: string, more: string) =>
      lines(SMALL.replace("/data/out.ndjson", path).replace('inputs = ["app"]', `inputs = ["${inputs}"]`) + more);
    const back =
      "a.toml:9: sinks.out.path: sources.app (a.toml:4) reads this file, so that its records would come back for ever; write to another folder, or name the file in the source's `exclude`";
    expect(await fed("/var/log/app/out.log", "app", "")).toEqual([back]);
    const transforms =
      '[transforms.b]\ntype = "json"\ninputs = ["a"]\n[transforms.a]\ntype = "json"\ninputs = ["app"]\n';
    expect(await fed("/var/log/app/out.log", "b", transforms)).toEqual([back]);
    expect(await fed("/var/log/other/out.log", "app", "")).toEqual([]);
    const stranger = '[sources.in]\ntype = "stdin"\n[sinks.two]\ntype = "http"\ninputs = ["app"]\nurl = "http://h/"\n';
    expect(await fed("/var/log/app/out.log", "in", stranger)).toEqual([]);
  });

  it("tell what a stage cannot use of the world, at its key, where something is to run", async () => {
    const sink = defineSink({
      type: "signed",
      summary: "Signs.",
      options: z.strictObject({ key: z.string() }),
      guarantee: "at_least_once",
      check: async ({ key }) => (key === "good" ? [] : [{ path: ["key"], message: `there is no file ${key}` }]),
      open: () => Promise.reject(new Error("never")),
    });
    const config = {
      sources: { in: { type: "stdin" } },
      sinks: { out: { type: "signed", inputs: ["in"], key: "bad" } },
    };
    const load = (key: string, needs: "pipeline" | "file" | "nothing") =>
      loadPlan({
        stages: { ...sampleStages, sinks: [sink] },
        env: {},
        cwd: "/",
        made: { by: "test", config: { ...config, sinks: { out: { ...config.sinks.out, key } } } },
        needs,
      });
    for (const needs of ["pipeline", "file"] as const) {
      await expect(load("bad", needs)).rejects.toThrow("test: sinks.out.key: there is no file bad");
      await expect(load("good", needs)).resolves.toBeDefined();
    }
    await expect(load("bad", "nothing")).resolves.toBeDefined();
  });

  it("refuse another policy than block where nothing may be dropped", async () => {
    const mistakes = await lines(`${SMALL}
[mpsc_channels.sources.tailer_manager]
overflow = "drop_oldest"
[mpsc_channels.orchestration.command_processor]
overflow = "block"
[mpsc_channels.worker.command_processor]
overflow = "error"
`);
    expect(mistakes).toEqual([
      'a.toml:12: mpsc_channels.sources.tailer_manager.overflow: is "drop_oldest"; this channel is always "block": what a source has read must not get lost',
      'a.toml:16: mpsc_channels.worker.command_processor.overflow: is "error"; this channel is always "block": commands must not get lost',
    ]);
  });

  it("name the neighbour of a component's input channel", async () => {
    expect(
      await lines(`${SMALL}[mpsc_channels.components.outt]\nbuffer_size = 1\n[mpsc_channels.components.app]\n`),
    ).toEqual([
      'a.toml:10: mpsc_channels.components.outt: there is no component "outt"; did you mean `out`?',
      "a.toml:12: mpsc_channels.components.app: a source has no input of its own; its channel is [mpsc_channels.sources.tailer_manager]",
    ]);
  });

  it("refuse an environment without a folder, but for the three that need none", async () => {
    expect(await mistakesOf({ "a.toml": SMALL }, { ...one, environment: "test" })).toEqual([]);
    expect(await mistakesOf({ "a.toml": SMALL }, { ...one, environment: "staging" })).toEqual([
      'command line: environment "staging": no configuration tree has a folder environments/staging; the nearest is `test`; there is test, development, production',
    ]);
    const files = { "t/base/a.toml": SMALL, "t/environments/staging/b.toml": "" };
    expect(await mistakesOf(files, { configs: ["t"], environment: "staging" })).toEqual([]);
    expect(await mistakesOf(files, { configs: ["t"], env: { TAILRACE_ENV: "stagign" } })).toEqual([
      'TAILRACE_ENV: environment "stagign": no configuration tree has a folder environments/stagign; did you mean `staging`?',
    ]);
    expect((await mistakesOf(files, { configs: ["t"], environment: "../base" }))[0]).toContain('environment "../base"');
  });

  it("say in plain English where the TOML is broken", async () => {
    expect(await lines("a = ")).toEqual(["a.toml:1:5: the value is missing; write `key = value`"]);
    expect(await lines("\n[a]\nb = /tmp/x")).toEqual([
      'a.toml:3:5: `/tmp/x` is no TOML value; text stands in quotes: "/tmp/x"',
    ]);
    expect(await lines('a = "x')).toEqual(["a.toml:1:7: the string has no closing quote"]);
    expect(await mistakesOf({ "a.toml": new Uint8Array([0x61, 0xff]) }, one)).toEqual([
      "a.toml: the file is not UTF-8, which TOML has to be",
    ]);
    expect(await mistakesOf({}, { configs: ["no.toml"] })).toEqual(["no.toml: there is no such file or folder"]);
    expect(await lines(`a = ${"[".repeat(70)}${"]".repeat(70)}`)).toEqual([
      "a.toml: the tables are nested deeper than 64 levels",
    ]);
  });

  it("hide secrets and the user info of URLs", async () => {
    const mistakes = await lines(
      `${SMALL}[sinks.h]\ntype = "http"\ninputs = ["app"]\nurl = "h ttp://me:pw@host"\ntoken = ["hidden"]\n`,
    );
    expect(mistakes.join("\n")).not.toMatch(/pw|hidden/);
    expect(mistakes).toHaveLength(2);
    expect(await lines("[api]\ntoken = hunter2\n")).toEqual([
      "a.toml:2:9: this is no TOML value; text stands in quotes",
    ]);
    expect(await lines("url = postgres://me:pw@host/db\n")).toEqual([
      "a.toml:1:7: this is no TOML value; text stands in quotes",
    ]);
  });

  it("warn of keys that do not do what one may expect", async () => {
    const { warnings } = await loadSample(
      {
        "a.toml": `${SMALL}[mpsc_channels.orchestration.event_listeners]
coalesce = true
[mpsc_channels.tap]
overflow = "block"
[mpsc_channels.components.out]
buffer_size_max = 2000
priority_lanes = false
`,
      },
      one,
    );
    expect(warnings.map(({ key, line, message }) => `${line} ${key}: ${message}`)).toEqual([
      '13 mpsc_channels.tap.overflow: "block" drops the newest here, as "drop_newest" does: a tap must never slow down what it shows',
      "15 mpsc_channels.components.out.buffer_size_max: has no effect without buffer_size_min: a dynamic size needs both",
    ]);
  });

  it("refuse lanes, merging and dynamic sizes where they make no sense, with the reason", async () => {
    const mistakes = await lines(`${SMALL}
[mpsc_channels.sources.tailer_manager]
priority_lanes = true
coalesce = true
[mpsc_channels.components.out]
coalesce = true
[mpsc_channels.worker.command_processor]
priority_lanes = true
[mpsc_channels.shared.ffi]
coalesce = true
[mpsc_channels.api.event_stream]
buffer_size_min = 10
buffer_size_max = 2000
[mpsc_channels.runtime.supervisor]
coalesce = true
`);
    expect(mistakes).toEqual([
      "a.toml:12: mpsc_channels.sources.tailer_manager.priority_lanes: is not for this channel: the records of a file keep their order, so that none may overtake another; leave it out",
      "a.toml:13: mpsc_channels.sources.tailer_manager.coalesce: is not for this channel: of records that are merged into one all but one would be lost; leave it out",
      "a.toml:15: mpsc_channels.components.out.coalesce: is not for this channel: of records that are merged into one all but one would be lost; leave it out",
      "a.toml:17: mpsc_channels.worker.command_processor.priority_lanes: is not for this channel: commands are carried out in the order in which they were given; leave it out",
      "a.toml:19: mpsc_channels.shared.ffi.coalesce: is not for this channel: every message to a foreign handler has an answer of its own; leave it out",
      "a.toml:21: mpsc_channels.api.event_stream.buffer_size_min: this channel has no dynamic size: each listener has a queue of its own, of fixed size and in order; leave it out",
      "a.toml:24: mpsc_channels.runtime.supervisor.coalesce: is not for this channel: the first errors are kept, in their order, and the rest is counted; leave it out",
    ]);
  });

  it("let lanes, merging and dynamic sizes into the plan where they make sense", async () => {
    const { plan, warnings } = await loadSample(
      {
        "a.toml": `${SMALL}[mpsc_channels.shared.event_publisher]
priority_lanes = true
coalesce = true
buffer_size_min = 100
buffer_size_max = 9000
[mpsc_channels.components.out]
buffer_size = 20
buffer_size_min = 10
buffer_size_max = 40
[mpsc_channels.sources.tailer_manager]
buffer_size_min = 64
buffer_size_max = 4096
`,
      },
      one,
    );
    expect(warnings).toEqual([]);
    expect(plan.channels.eventPublisher).toMatchObject({
      bufferSizeMin: 100,
      bufferSizeMax: 9000,
      priorityLanes: true,
      coalesce: true,
    });
    expect(plan.channels.input("out")).toMatchObject({ bufferSize: 20, bufferSizeMin: 10, bufferSizeMax: 40 });
    expect(plan.channels.tailerPayload).toMatchObject({ bufferSizeMin: 64, bufferSizeMax: 4096 });
  });
});

describe("the shipped tree", () => {
  const folder = join(import.meta.dirname, "../../config");
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".toml"));
  const files = Object.fromEntries(names.map((name) => [`config/${name}`, readFileSync(join(folder, name), "utf8")]));
  const load = (environment: string) =>
    loadSample({ ...files, "mine.toml": SMALL }, { configs: ["config", "mine.toml"], environment });
  const sizes = async (environment: string) => {
    const { explain } = await load(environment);
    const value = (key: string) => explain(`mpsc_channels.${key}`).keys[0]?.value;
    return [
      value("orchestration.command_processor.command_buffer_size"),
      value("orchestration.event_listeners.pgmq_event_buffer_size"),
      value("task_readiness.event_channel.buffer_size"),
      value("shared.event_publisher.event_queue_buffer_size"),
      value("shared.ffi.ruby_event_buffer_size"),
    ];
  };

  it("has the designs' overrides in each environment", async () => {
    expect(await sizes("production")).toEqual([5000, 50000, 1000, 10000, 1000]);
    expect(await sizes("development")).toEqual([1000, 10000, 500, 5000, 500]);
    expect(await sizes("test")).toEqual([100, 10000, 100, 5000, 1000]);
  });

  it("has built-in defaults for base", async () => {
    const { explain } = await load("production");
    const bare = await loadSample({ "mine.toml": SMALL }, { configs: ["mine.toml"] });
    const base = explain("mpsc_channels").keys.filter(
      (key) => key.place === undefined || key.place.file.startsWith("config/base/"),
    );
    for (const { key, value } of base) expect([key, bare.explain(key).keys[0]?.value]).toEqual([key, value]);
    expect(base.length).toBeGreaterThan(40);
  });
});
