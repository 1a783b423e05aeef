import { describe, expect, it } from "vitest";
import { loadPlan } from "./config/index.ts";
import { builtInStages } from "./stages.ts";

/** The configuration of the product contract, key by key. */
const CONTRACT = `
state_dir = "./.tailrace"
[api]
enabled = true
address = "127.0.0.1:7717"
[shutdown]
graceful_timeout_ms = 10000
on_signal_timeout_ms = 0
sink_grace_ms = 0
[checkpoint]
commit_interval_ms = 100
commit_bytes = 67108864
max_uncommitted_bytes = 268435456
max_uncommitted_ms = 30000
[sources.app]
type = "file"
include = ["/var/log/app/*.log"]
exclude = ["*.gz"]
read_from = "beginning"
max_line_bytes = 1048576
line_delimiter = "\\n"
max_batch_bytes = 262144
scan_interval_ms = 1000
idle_scan_interval_ms = 10000
partial_line_timeout_ms = 0
rotate_wait_ms = 5000
archives = true
max_open_files = 1000
[transforms.parse]
type = "json"
inputs = ["app"]
[transforms.keep]
type = "filter"
inputs = ["parse"]
condition = "level == 'error' and status >= 500"
[sinks.out]
type = "file"
inputs = ["keep"]
path = "/data/out.ndjson"
encoding = "json"
[sinks.out.rotate]
max_bytes = 0
max_age_ms = 0
keep = 0
[sinks.socket]
type = "tcp"
inputs = ["parse"]
address = "localhost:9000"
timeout_ms = 10000
[sinks.web]
type = "http"
inputs = ["parse"]
url = "https://example.org/in"
retry = { initial_ms = 250, max_ms = 30000, max_attempts = 0 }
[sinks.screen]
type = "console"
inputs = ["parse"]
[sinks.hole]
type = "blackhole"
inputs = ["parse"]
[mpsc_channels.sources.tailer_manager]
payload_buffer_size = 1024
payload_buffer_bytes = 67108864
`;

describe("builtInStages", () => {
  it("take the configuration of the product contract", async () => {
    const bytes = Buffer.from(CONTRACT);
    const files = {
      kind: async (): Promise<"file"> => "file",
      read: async () => bytes,
      list: async () => [],
      load: async () => ({}),
    } as const;
    const { plan } = await loadPlan({ stages: builtInStages, configs: ["a.toml"], env: {}, cwd: "/", files });
    const names = [...plan.sources, ...plan.transforms, ...plan.sinks].map(({ name }) => name);
    expect(names).toEqual(["app", "parse", "keep", "out", "socket", "web", "screen", "hole"]);
  });

  it("have one type each, and say what they are for", () => {
    for (const stages of Object.values(builtInStages)) {
      const types = stages.map(({ type }) => type);
      expect(new Set(types).size).toBe(types.length);
      for (const { type, summary } of stages) expect([type, summary]).toEqual([type, expect.stringMatching(/\.$/)]);
    }
  });
});
