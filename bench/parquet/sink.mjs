/**
 * Claim: records become Parquet at a steady pace and in bounded memory, whatever the size of the file; and a time slot
 * takes less than a tenth of what it takes as JSON.
 *
 *     npm run build && node bench/parquet/sink.mjs [lines=500000]
 *
 * A file of JSON lines through the `json` transform, once with the file sink (the base), then with the parquet sink and each
 * codec. Time is that of the whole agent, from start to exit: a clean stop finishes the Parquet file.
 */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const LINES = Number(process.argv[2] ?? 500_000);
const AGENT = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-parquet-"));

const series = (index, most) => (index * 7919 + 104_729) % most;
const KINDS = {
  slots: (index) => ({
    slot_start: new Date(1_763_720_000_000 + (index >> 4)).toISOString().replace("Z", "000000Z"),
    slot_ns: 1_000_000,
    pid: 1000 + series(index, 100),
    comm: `process-${series(index, 100)}`,
    cgroup: `/system.slice/unit${series(index, 30)}.service`,
    cpu_ns: series(index, 1_000_001),
    runqueue_wait_ns: series(index, 999_983),
    context_switches: series(index, 9),
    migrations: 0,
    page_faults: series(index, 3),
    syscalls: series(index, 50),
    block_bytes: 0,
    net_sent_bytes: 0,
    net_received_bytes: 0,
    cycles: null,
    instructions: null,
    cache_misses: null,
    complete: true,
    lost_events: 0,
  }),
  logs: (index) => ({
    level: ["info", "warn", "error"][index % 3],
    status: [200, 404, 500][index % 3],
    ms: series(index, 100_003) / 1000,
    user: `user${series(index, 5000)}`,
    path: `/api/v1/things/${index}`,
    text: `request ${index} was answered in good time by the server that had it`,
  }),
};

try {
  for (const [kind, make] of Object.entries(KINDS)) {
    const log = join(folder, `${kind}.log`);
    const stream = createWriteStream(log);
    for (let index = 0; index < LINES; index += 1) {
      if (!stream.write(`${JSON.stringify(make(index))}\n`)) await once(stream, "drain");
    }
    stream.end();
    await once(stream, "finish");
    for (const sink of ["file", "snappy", "zstd", "none"]) {
      const out = join(folder, `${kind}-${sink}`);
      const config = join(folder, `${kind}-${sink}.toml`);
      const target =
        sink === "file"
          ? `type = "file"\npath = "${out}/out.ndjson"`
          : `type = "parquet"\ncompression = "${sink}"\npath = "${out}/out.parquet"`;
      writeFileSync(
        config,
        `state_dir = "${out}/state"\n[api]\nenabled = false\n[sources.in]\ntype = "file"\ninclude = ["${log}"]\n[transforms.parse]\ntype = "json"\ninputs = ["in"]\n[sinks.out]\ninputs = ["parse"]\n${target}\n`,
      );
      const begun = performance.now();
      const { status, stderr } = spawnSync(
        "/usr/bin/time",
        ["-f", "%U %S %M", process.execPath, AGENT, "run", "-c", config, "--once"],
        { encoding: "utf8" },
      );
      const seconds = (performance.now() - begun) / 1000;
      if (status !== 0) throw new Error(stderr);
      const [user, system, peak] = stderr.trim().split("\n").at(-1).split(" ").map(Number);
      const ceiling = /memory ceiling: (\d+) MiB/.exec(stderr)[1];
      const bytes = readdirSync(out)
        .filter((name) => name.startsWith("out."))
        .reduce((sum, name) => sum + statSync(join(out, name)).size, 0);
      console.log(
        `${kind.padEnd(6)} ${sink.padEnd(7)} ${Math.round(LINES / seconds)
          .toLocaleString("en")
          .padStart(
            9,
          )} records/s  ${(((user + system) * 1e6) / LINES).toFixed(1).padStart(5)} us CPU/record  ${(bytes / LINES).toFixed(1).padStart(6)} B/record  peak ${Math.round(peak / 1024)} MiB of ${ceiling}`,
      );
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
