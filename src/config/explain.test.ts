import { describe, expect, it } from "vitest";
import { loadSample, SMALL } from "../../test/config/sample-stages.ts";
import { ConfigError } from "../errors.ts";

const TOML = `${SMALL}
[sinks.web]
type = "http"
inputs = ["app"]
url = "https://me:pw@example.org/\${PART:-x}"
token = "hidden"
[api]
address = "127.0.0.1:1"
`;

const load = (options: object = {}) =>
  loadSample({ "a.toml": TOML, "b.toml": '[api]\naddress = "127.0.0.1:2"\n' }, { configs: ["a.toml"], ...options });

describe("explain", () => {
  it("gives the value and the file and line that set it", async () => {
    const { explain } = await load();
    expect(explain("api.address")).toMatchObject({
      isTable: false,
      keys: [{ key: "api.address", value: "127.0.0.1:1", place: { file: "a.toml", line: 17 }, setBy: "a.toml:17" }],
    });
    expect(explain("sources.app.include").keys[0]).toMatchObject({ value: ["/var/log/app/*.log"], setBy: "a.toml:4" });
  });

  it("says built-in default, --set and --state-dir where no file did it", async () => {
    const { explain } = await load({ sets: ["shutdown.sink_grace_ms=4"], stateDir: "x" });
    expect(explain("checkpoint.commit_bytes").keys[0]).toMatchObject({ value: 67108864, setBy: "built-in default" });
    expect(explain("sources.app.archives").keys[0]).toMatchObject({ value: true, setBy: "built-in default" });
    expect(explain("shutdown.sink_grace_ms").keys[0]).toMatchObject({ value: 4, setBy: "--set" });
    expect(explain("state_dir").keys[0]).toMatchObject({ value: "x", setBy: "--state-dir" });
  });

  it("names what a higher layer overrode, and the variables that went in", async () => {
    const { explain } = await load({ configs: ["a.toml", "b.toml"] });
    expect(explain("api.address").keys[0]).toMatchObject({
      setBy: "b.toml:2",
      overrides: [{ file: "a.toml", line: 17 }],
    });
    expect(explain("sinks.web.url").keys[0]?.variables).toEqual(["PART"]);
  });

  it("hides secrets and the user info of URLs", async () => {
    const { explain } = await load();
    expect(explain("sinks.web.url").keys[0]?.value).toBe("https://***@example.org/x");
    expect(explain("sinks.web.token").keys[0]?.value).toBe("***");
    expect(JSON.stringify(explain("sinks"))).not.toMatch(/hidden|pw/);
  });

  it("lists every key below a table", async () => {
    const { explain } = await load();
    expect(
      explain("sinks.out")
        .keys.map(({ key }) => key)
        .sort(),
    ).toEqual([
      "sinks.out.backfill",
      "sinks.out.encoding",
      "sinks.out.inputs",
      "sinks.out.max_lag_bytes",
      "sinks.out.path",
      "sinks.out.previous_names",
      "sinks.out.required",
      "sinks.out.type",
    ]);
    expect(explain("mpsc_channels").keys.map(({ key }) => key)).toContain("mpsc_channels.components.out.buffer_size");
  });

  it("derives the overflow of a channel that names none", async () => {
    const { explain } = await load({ sets: ["mpsc_channels.overflow_policy.drop_policy=drop_oldest"] });
    const value = (key: string) => explain(`mpsc_channels.${key}.overflow`).keys[0];
    expect(value("components.out")).toMatchObject({
      value: "drop_oldest",
      setBy: "mpsc_channels.overflow_policy.drop_policy, --set",
    });
    expect(value("shared.ffi")).toMatchObject({ value: "error", setBy: "the channel's design" });
    expect(value("sources.tailer_manager")).toMatchObject({ value: "block" });
  });

  it("knows a key that is not set", async () => {
    const { explain } = await load();
    expect(explain("api.token").keys[0]).toMatchObject({ value: undefined, setBy: "not set" });
  });

  it("names the nearest neighbour of a key that does not exist", async () => {
    const { explain } = await load();
    const messageOf = (key: string) => {
      try {
        explain(key);
        return "";
      } catch (thrown) {
        return thrown instanceof ConfigError ? thrown.message : String(thrown);
      }
    };
    expect(messageOf("api.adress")).toBe('unknown key "api.adress"; did you mean `api.address`?');
    expect(messageOf("mpsc_chanels.tap.buffer_size")).toContain("did you mean `mpsc_channels.tap.buffer_size`?");
    expect(messageOf("task_readiness.event_channel.buffer_size")).toContain(
      "`mpsc_channels.task_readiness.event_channel.buffer_size`",
    );
    expect(messageOf("api.address.more")).toContain("api.address has no keys below it");
    expect(messageOf("a b")).toContain("write a dotted key");
  });
});
