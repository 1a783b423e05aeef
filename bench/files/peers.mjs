// The collectors that the benchmarks compare: each reads `input` (a path or a glob) and appends to `output`. `isJson`: it
// parses each line, adds a field and writes it again. One that is not installed is told and left out.
//
// syslog-ng conflicts with rsyslog as a Debian package; TAILRACE_BENCH_SYSLOG_NG may name the folder of an unpacked one.
import { execFileSync, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const QUIET = { stdio: ["ignore", "ignore", "ignore"] };

function which(name) {
  try {
    return execFileSync("sh", ["-c", `PATH=$PATH:/usr/sbin:/opt/fluent-bit/bin command -v ${name}`], {
      encoding: "utf8",
    }).trim();
  } catch {
    return undefined;
  }
}

/** Name -> start({ work, input, output, isJson, more }) => child process; undefined: not installed. */
const PEERS = {
  tailrace: () => startTailrace,
  rsyslog: () => {
    const program = which("rsyslogd");
    return program && ((job) => startRsyslog(program, job));
  },
  "syslog-ng": () => {
    const home = process.env.TAILRACE_BENCH_SYSLOG_NG;
    const program = home ? join(home, "usr/sbin/syslog-ng") : which("syslog-ng");
    return program && ((job) => startSyslogNg(program, home, job));
  },
  "fluent-bit": () => {
    const program = which("fluent-bit");
    return program && ((job) => startFluentBit(program, job));
  },
  vector: () => {
    const program = which("vector");
    return program && ((job) => startVector(program, job));
  },
};

/** Those that are installed, in the order above; `only` (a list of names) leaves out the rest. */
export function peers({ only, without = [] } = {}) {
  return Object.entries(PEERS).flatMap(([name, find]) => {
    if ((only !== undefined && !only.includes(name)) || without.includes(name)) return [];
    const start = find();
    if (start === undefined) console.log(`${name}: not installed, left out`);
    return start === undefined ? [] : [{ name, start }];
  });
}

function startTailrace({ work, input, output, isJson = false, more = "", threads = 0, sink }) {
  const transforms = isJson
    ? `[transforms.parse]\ntype = "json"\ninputs = ["in"]\n[transforms.add]\ntype = "map"\ninputs = ["parse"]\nmodule = "${work}/add.mjs"\n`
    : "";
  writeFileSync(
    join(work, "add.mjs"),
    "export default ({ message, ...event }) => { event.added = 'yes'; return event; };\n",
  );
  const target = sink ?? `type = "file"\npath = "${output}"\nencoding = "${isJson ? "json" : "raw"}"`;
  const config = join(work, "tailrace.toml");
  writeFileSync(
    config,
    `state_dir = "${work}/state"\ntransform_threads = ${threads}\n[api]\nenabled = false\n[sources.in]\ntype = "file"\ninclude = ["${input}"]\n${transforms}[sinks.out]\ninputs = ["${isJson ? "add" : "in"}"]\n${target}\n${more}\n`,
  );
  return spawn(process.execPath, [join(ROOT, "bin/tailrace.js"), "run", "-c", config, "--log-level", "error"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
}

function startRsyslog(program, { work, input, output, isJson = false }) {
  const config = join(work, "rsyslog.conf");
  const parse = isJson ? 'module(load="mmjsonparse")\n' : "";
  const file = `type="omfile" file="${output}" template="out" ioBufferSize="256k" flushOnTXEnd="off"`;
  const rules = isJson
    ? `template(name="out" type="list") { property(name="$!all-json-plain") constant(value="\\n") }\nruleset(name="r") { action(type="mmjsonparse" cookie="") set $!added = "yes"; action(${file}) }\n`
    : `template(name="out" type="string" string="%msg%\\n")\nruleset(name="r") { action(${file}) }\n`;
  writeFileSync(
    config,
    `global(workDirectory="${work}" maxMessageSize="64k")\nmain_queue(queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="2048")\nmodule(load="imfile" mode="inotify")\n${parse}${rules}input(type="imfile" file="${input}" tag="x" ruleset="r" readMode="0")\n`,
  );
  return spawn(program, ["-n", "-f", config, "-i", join(work, "pid")], QUIET);
}

function startSyslogNg(program, home, { work, input, output, isJson = false }) {
  const config = join(work, "syslog-ng.conf");
  const parser = isJson
    ? 'parser p { json-parser(prefix(".j.")); };\nrewrite w { set("yes" value(".j.added")); };\n'
    : "";
  const template = isJson ? "$(format-json --key .j.* --shift-levels 2)\\n" : "$MSG\\n";
  const source = input.includes("*")
    ? `wildcard-file(base-dir("${dirname(input)}") filename-pattern("${basename(input)}") max-files(20000) flags(no-parse) follow-freq(1) log-fetch-limit(10000) log-iw-size(2000000))`
    : `file("${input}" flags(no-parse) follow-freq(0.1) log-fetch-limit(10000) log-iw-size(100000))`;
  writeFileSync(
    config,
    `@version: 3.35\noptions { flush-lines(1000); log-msg-size(65536); stats-freq(0); };\nsource s { ${source}; };\n${parser}destination d { file("${output}" template("${template}")); };\nlog { source(s); ${isJson ? "parser(p); rewrite(w); " : ""}destination(d); flags(flow-control); };\n`,
  );
  const libraries = `${home}/usr/lib/syslog-ng:${home}/usr/lib/x86_64-linux-gnu:${home}/usr/lib`;
  const env = home ? { ...process.env, LD_LIBRARY_PATH: libraries } : process.env;
  const modules = home ? [`--module-path=${home}/usr/lib/syslog-ng/3.38`] : [];
  const files = ["-f", config, "-R", join(work, "persist"), "-c", join(work, "ctl"), "-p", join(work, "pid")];
  return spawn(program, ["-F", "--no-caps", ...files, ...modules], { ...QUIET, env });
}

function startFluentBit(program, { work, input, output, isJson = false }) {
  const config = join(work, "fluent-bit.conf");
  const parsers = join(work, "parsers.conf");
  writeFileSync(parsers, "[PARSER]\n name json\n format json\n");
  const filter = isJson ? "[FILTER]\n name modify\n match *\n add added yes\n" : "";
  writeFileSync(
    config,
    `[SERVICE]\n flush 0.2\n log_level error\n parsers_file ${parsers}\n[INPUT]\n name tail\n path ${input}\n read_from_head on\n db ${work}/fb.db\n${isJson ? " parser json\n" : ""}${filter}[OUTPUT]\n name file\n match *\n path ${dirname(output)}\n file ${basename(output)}\n ${isJson ? "format plain" : "format template\n template {log}"}\n`,
  );
  return spawn(program, ["-c", config], QUIET);
}

function startVector(program, { work, input, output, isJson = false }) {
  const config = join(work, "vector.toml");
  const parse = isJson
    ? `[transforms.add]\ntype = "remap"\ninputs = ["in"]\nsource = '. = parse_json!(.message); .added = "yes"'\n`
    : "";
  writeFileSync(
    config,
    `data_dir = "${work}"\n[sources.in]\ntype = "file"\ninclude = ["${input}"]\nread_from = "beginning"\n${parse}[sinks.out]\ntype = "file"\ninputs = ["${isJson ? "add" : "in"}"]\npath = "${output}"\nencoding.codec = "${isJson ? "json" : "text"}"\n`,
  );
  return spawn(program, ["-q", "-c", config], QUIET);
}
