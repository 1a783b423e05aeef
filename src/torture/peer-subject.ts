import { accessSync, constants, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { ConfigError } from "../errors.ts";
import { rotationKinds } from "./rotation-kind.ts";
import type { Ingredient, Subject } from "./subject.ts";

export type PeerName = "rsyslog" | "syslog-ng" | "vlagent" | "otelcol" | "fluent-bit";

interface Peer {
  readonly programs: readonly string[];
  readonly howToGet: string;
  /** Rotations that its manual says it follows. */
  readonly kinds: ReadonlySet<Ingredient>;
  /** Over HTTP to the receiver, or into a file. */
  readonly target: "http" | "file";
  /** Writes its configuration, at its safest settings, and gives the arguments. */
  readonly configure: (place: PeerPlace) => readonly string[];
}

interface PeerPlace {
  readonly folder: string;
  /** Of the live logs and of their rotated names: without these, most lose what is renamed while they are down. */
  readonly logs: string;
  readonly glob: string;
  readonly output: string;
  readonly baseUrl: string;
}

const RENAME: ReadonlySet<Ingredient> = new Set(["rename_create"]);
const RENAME_AND_TRUNCATE: ReadonlySet<Ingredient> = new Set(["rename_create", "copytruncate"]);

const PEERS: { readonly [name in PeerName]: Peer } = {
  rsyslog: {
    programs: ["rsyslogd"],
    howToGet: "Debian: apt-get install rsyslog",
    kinds: RENAME_AND_TRUNCATE,
    target: "file",
    configure: rsyslog,
  },
  "syslog-ng": {
    programs: ["syslog-ng"],
    howToGet: "Debian: apt-get install syslog-ng-core",
    kinds: RENAME_AND_TRUNCATE,
    target: "file",
    configure: syslogNg,
  },
  vlagent: {
    programs: ["vlagent"],
    howToGet: "go install github.com/VictoriaMetrics/VictoriaLogs/app/vlagent@v1.52.2",
    kinds: RENAME,
    target: "http",
    configure: vlagent,
  },
  otelcol: {
    programs: ["otelcol-contrib", "otelcol"],
    howToGet: "its releases of otelcol-contrib, or its builder with filelogreceiver, filestorage and otlphttpexporter",
    kinds: RENAME_AND_TRUNCATE,
    target: "http",
    configure: otelcol,
  },
  "fluent-bit": {
    programs: ["fluent-bit"],
    howToGet: "its packages, see https://docs.fluentbit.io",
    kinds: RENAME_AND_TRUNCATE,
    target: "http",
    configure: fluentBit,
  },
};

/**
 * The peer's program.
 * @throws ConfigError `TR_USAGE` where it is not installed, with how to get it
 */
export function findPeer(name: PeerName, given: string | undefined, path: string): string {
  const { programs, howToGet } = PEERS[name];
  const folders = [...path.split(delimiter), "/usr/sbin", "/sbin", "/opt/fluent-bit/bin"].filter((each) => each !== "");
  const candidates =
    given === undefined ? programs.flatMap((program) => folders.map((each) => join(each, program))) : [given];
  const found = candidates.find(isExecutable);
  if (found !== undefined) return found;
  const where = given === undefined ? "on PATH" : `at ${given}`;
  throw new ConfigError(
    [
      {
        message: `--peer ${name}: there is no ${programs.join(" or ")} ${where}; get it (${howToGet}), or give its path with --peer-bin`,
      },
    ],
    "TR_USAGE",
  );
}

/** The peer in a folder of its own. */
export function peerSubject(name: PeerName, program: string, folder: string): Subject {
  const { kinds, target, configure } = PEERS[name];
  const logs = join(folder, "logs0");
  const output = join(folder, "out", "collected.log");
  for (const each of ["out", "peer"]) mkdirSync(join(folder, each), { recursive: true });
  const numbers = { append: true, naming: "numbers", keep: 20, compress: false } as const;
  return {
    name,
    families: [
      { ...numbers, name: "A", path: join(logs, "a.log") },
      { ...numbers, name: "B", path: join(logs, "b.log") },
    ],
    sinks: [{ name: target, isExact: false, ...(target === "file" ? { path: output } : {}) }],
    without: withoutAllBut(kinds, target),
    reachMs: 20_000,
    notes: [
      `${name} at its safest settings, reading rotated names too; rotations that it follows: ${[...kinds].join(", ")}`,
    ],
    tellsGaps: false,
    command: (baseUrl) => ({
      argv: [program, ...configure({ folder: join(folder, "peer"), logs, glob: `${logs}/*.log*`, output, baseUrl })],
      cwd: folder,
      logPath: join(folder, "agent.log"),
      env: { GOMAXPROCS: "2" },
    }),
  };
}

/** Tailrace through what the peer is put through, and no more. */
export function asPeer(name: PeerName, subject: Subject): Subject {
  const { kinds, target } = PEERS[name];
  return {
    ...subject,
    families: subject.families.filter((family) => "AB".includes(family.name)),
    without: withoutAllBut(kinds, target),
    notes: [],
  };
}

function withoutAllBut(kinds: ReadonlySet<Ingredient>, target: Peer["target"]): ReadonlySet<Ingredient> {
  const others: readonly Ingredient[] = [
    "links",
    "alias",
    "disk",
    "clock",
    ...(target === "file" ? ["moods" as const] : []),
  ];
  return new Set([...rotationKinds().filter((kind) => !kinds.has(kind)), ...others]);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function rsyslog({ folder, glob, output }: PeerPlace): string[] {
  const config = join(folder, "rsyslog.conf");
  writeFileSync(
    config,
    `global(workDirectory="${folder}" maxMessageSize="64k")
module(load="imfile" mode="inotify")
template(name="raw" type="string" string="%msg%\\n")
input(type="imfile" file="${glob}" tag="t" ruleset="out" freshStartTail="off" reopenOnTruncate="on"
  persistStateInterval="1" persistStateAfterSubmission="on" deleteStateOnFileDelete="off")
ruleset(name="out" queue.type="disk" queue.filename="q" queue.checkpointInterval="1" queue.syncQueueFiles="on"
  queue.saveOnShutdown="on") {
  action(type="omfile" file="${output}" template="raw" asyncWriting="off" sync="on")
}
`,
  );
  return ["-n", "-f", config, "-i", join(folder, "pid")];
}

function syslogNg({ folder, logs, output }: PeerPlace): string[] {
  const config = join(folder, "syslog-ng.conf");
  writeFileSync(
    config,
    `@version: current
options { flush-lines(1); log-msg-size(65536); };
source s { wildcard-file(base-dir("${logs}") filename-pattern("*.log*") recursive(no) follow-freq(0.2) max-files(200) log-iw-size(20000)
  flags(no-parse)); };
destination d { file("${output}" template("\${MESSAGE}\\n") fsync(yes)); };
log { source(s); destination(d); flags(flow-control); };
`,
  );
  const files = ["-R", join(folder, "persist"), "-p", join(folder, "pid"), "-c", join(folder, "control")];
  return ["-F", "-f", config, ...files, "--no-caps"];
}

function vlagent({ folder, glob, baseUrl }: PeerPlace): string[] {
  return [
    `-fileCollector.glob=${glob}`,
    `-fileCollector.checkpointsPath=${join(folder, "checkpoints.json")}`,
    "-fileCollector.refreshInterval=1s",
    `-tmpDataPath=${join(folder, "tmp")}`,
    `-remoteWrite.url=${baseUrl}/http/insert/jsonline`,
    "-remoteWrite.format=jsonline",
    "-httpListenAddr=127.0.0.1:0",
  ];
}

function otelcol({ folder, glob, baseUrl }: PeerPlace): string[] {
  const config = join(folder, "otelcol.yaml");
  const storage = join(folder, "storage");
  mkdirSync(storage, { recursive: true });
  writeFileSync(
    config,
    `receivers:
  filelog:
    include: ['${glob}']
    start_at: beginning
    poll_interval: 200ms
    # More than the bytes that all files here have in common.
    fingerprint_size: 4kb
    storage: file_storage
    retry_on_failure: {enabled: true, max_elapsed_time: 0s}
exporters:
  otlphttp:
    endpoint: ${baseUrl}/http
    encoding: json
    compression: gzip
    retry_on_failure: {enabled: true, max_elapsed_time: 0s, initial_interval: 100ms}
    sending_queue: {enabled: true, storage: file_storage, block_on_overflow: true}
extensions:
  file_storage:
    directory: ${storage}
    fsync: true
service:
  telemetry: {metrics: {level: none}, logs: {level: error}}
  extensions: [file_storage]
  pipelines:
    logs: {receivers: [filelog], exporters: [otlphttp]}
`,
  );
  return ["--config", config];
}

function fluentBit({ folder, glob, baseUrl }: PeerPlace): string[] {
  const config = join(folder, "fluent-bit.conf");
  const { hostname, port } = new URL(baseUrl);
  writeFileSync(
    config,
    `[SERVICE]
    Flush 0.2
    Grace 30
    Log_Level error
    storage.path ${join(folder, "storage")}
    storage.sync full
    storage.checksum on
[INPUT]
    Name tail
    Path ${glob}
    DB ${join(folder, "tail.db")}
    DB.sync full
    Read_from_Head true
    Refresh_Interval 1
    Rotate_Wait 30
    storage.type filesystem
    Buffer_Max_Size 1M
[OUTPUT]
    Name http
    Match *
    Host ${hostname}
    Port ${port}
    URI /http
    Format json_lines
    Compress gzip
    Retry_Limit no_limits
    storage.total_limit_size 4G
`,
  );
  return ["-c", config];
}
