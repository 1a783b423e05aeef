import { describe, expect, it } from "vitest";
import { loadSample, SMALL } from "../../test/config/sample-stages.ts";
import { ChannelMonitor, ChannelRegistry, machineClock, type OverflowPolicy } from "../channel/index.ts";
import { ChannelFullError } from "../errors.ts";

const load = (toml: string) => loadSample({ "a.toml": `${SMALL}${toml}` }, { configs: ["a.toml"] });

/** The policy that a section ends up with. */
async function policyOf(section: string, toml = ""): Promise<OverflowPolicy> {
  const { explain } = await load(toml);
  return explain(`mpsc_channels.${section}.overflow`).keys[0]?.value as OverflowPolicy;
}

/** A channel of one place with the policy of a section, already full. */
async function fullChannel(section: string, unit: "records" | "time slots" = "records", toml = "") {
  const registry = new ChannelRegistry();
  const lines: { message: string; fields: object }[] = [];
  const tell = (fields: object, message: string) => void lines.push({ fields, message });
  const log = { warn: tell, info: () => {} };
  const monitor = new ChannelMonitor({ registry, clock: machineClock, log, warningThreshold: 1 });
  const [component, channel] = section.split(".").slice(-2) as [string, string];
  const ends = registry.create<string>({
    component,
    channel,
    why: "a test",
    unit,
    capacity: 1,
    overflow: await policyOf(section, toml),
  });
  monitor.start();
  ends.sender.trySend("first");
  const close = () => {
    ends.receiver.close();
    ends.sender.close();
  };
  return { ...ends, monitor, lines, [Symbol.dispose]: close };
}

const DESIGNED = {
  "sources.tailer_manager": "block",
  "orchestration.command_processor": "block",
  "orchestration.event_listeners": "block",
  "worker.command_processor": "block",
  "shared.event_publisher": "drop_newest",
  "shared.ffi": "error",
  "runtime.supervisor": "drop_newest",
  "api.event_stream": "drop_newest",
  tap: "drop_newest",
} as const;

describe("policies by component", () => {
  it.each(Object.entries(DESIGNED))(
    "%s has its designed policy %s, whatever drop_policy says",
    async (section, policy) => {
      expect(await policyOf(section)).toBe(policy);
      expect(await policyOf(section, '[mpsc_channels.overflow_policy]\ndrop_policy = "drop_oldest"\n')).toBe(policy);
    },
  );

  it.each(["task_readiness.event_channel", "worker.in_process_events", "components.out"])(
    "%s has none and follows drop_policy",
    async (section) => {
      expect(await policyOf(section)).toBe("block");
      expect(await policyOf(section, '[mpsc_channels.overflow_policy]\ndrop_policy = "error"\n')).toBe("error");
    },
  );

  it.each(["orchestration.event_listeners", "shared.event_publisher", "shared.ffi", "components.out"])(
    "%s can be set to any other",
    async (section) => {
      for (const policy of ["block", "drop_newest", "drop_oldest", "error"])
        expect(await policyOf(section, `[mpsc_channels.${section}]\noverflow = "${policy}"\n`)).toBe(policy);
    },
  );

  it("a listener's sender waits, and nothing is lost", async () => {
    using full = await fullChannel("orchestration.event_listeners");
    const waiting = full.sender.send("second");
    expect(await full.receiver.recv()).toBe("first");
    await waiting;
    expect(await full.receiver.recv()).toBe("second");
    full.monitor.stop();
    expect(full.lines.filter(({ message }) => message.startsWith("Dropped"))).toEqual([]);
  });

  it("the event publisher drops the event, counts it and says so", async () => {
    using full = await fullChannel("shared.event_publisher");
    for (let more = 0; more < 3; more += 1) await full.sender.send("more");
    expect(full.receiver.counters()).toMatchObject({ sent: 4, messages: 1, dropped: { policy: 3 } });
    full.monitor.stop();
    expect(full.lines.at(-1)).toEqual({
      fields: { component: "shared", channel: "event_publisher", dropped: 3 },
      message: "Dropped 3 records in last second",
    });
  });

  it("a foreign handler's sender gets a typed error with its message", async () => {
    using full = await fullChannel("shared.ffi");
    const refused = full.sender.send("second");
    await expect(refused).rejects.toBeInstanceOf(ChannelFullError);
    await expect(refused).rejects.toMatchObject({ code: "TR_CHANNEL_FULL", value: "second" });
    expect(full.receiver.counters()).toMatchObject({ sent: 1, dropped: { policy: 0 } });
    full.monitor.stop();
  });

  it("time slots drop the newest and are reported as time slots", async () => {
    // Their section comes with their source; the publisher's policy is the same.
    using full = await fullChannel("shared.event_publisher", "time slots");
    full.sender.trySend("second");
    expect(full.receiver.tryRecv()).toBe("first");
    full.monitor.stop();
    expect(full.lines.at(-1)?.message).toBe("Dropped 1 time slots in last second");
  });
});
