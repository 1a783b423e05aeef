import type { SinkDefinition, SourceDefinition, TransformDefinition } from "../stage/index.ts";
import { CHANNEL_SECTIONS, COMPONENT_INPUT, overflowOf } from "./channel-sections.ts";
import type { CheckedComponent } from "./components.ts";
import { inReadingOrder } from "./graph.ts";
import type { ChannelSize, ChannelsPlan, Plan, PlannedComponent, RetryPlan } from "./plan.ts";
import type { GeneralConfig } from "./schema.ts";

/*
 * The one place where the TOML's snake_case keys become the plan's camelCase fields. (A stage's own options keep their
 * snake_case: its schema is its type.)
 */

export function planOf(config: GeneralConfig, components: readonly CheckedComponent[], environment: string): Plan {
  const { api, shutdown, checkpoint } = config;
  const { otlp } = config.telemetry;
  return {
    stateDir: config.state_dir,
    environment,
    api: { enabled: api.enabled, address: api.address, token: api.token, allowedHosts: api.allowed_hosts },
    otlp:
      otlp.url === undefined
        ? undefined
        : { url: otlp.url, intervalMs: otlp.interval_ms, timeoutMs: otlp.timeout_ms, headers: otlp.headers },
    shutdown: {
      gracefulTimeoutMs: shutdown.graceful_timeout_ms,
      onSignalTimeoutMs: shutdown.on_signal_timeout_ms,
      sinkGraceMs: shutdown.sink_grace_ms,
    },
    checkpoint: {
      commitIntervalMs: checkpoint.commit_interval_ms,
      commitBytes: checkpoint.commit_bytes,
      maxUncommittedBytes: checkpoint.max_uncommitted_bytes,
      maxUncommittedMs: checkpoint.max_uncommitted_ms,
    },
    deadLetters: { maxBytes: config.dead_letters.max_bytes },
    transformThreads: config.transform_threads,
    channels: channelsPlan(config),
    taskReadiness: taskReadinessOf(config),
    sources: plannedOf<SourceDefinition>(components, "source"),
    transforms: inReadingOrder(plannedOf<TransformDefinition>(components, "transform")),
    sinks: plannedOf<SinkDefinition>(components, "sink"),
  };
}

function plannedOf<Definition extends CheckedComponent["definition"]>(
  components: readonly CheckedComponent[],
  kind: Definition["kind"],
): PlannedComponent<Definition>[] {
  return components
    .filter((component) => component.definition.kind === kind)
    .map((component) => ({
      name: component.name,
      definition: component.definition as Definition,
      options: component.options,
      inputs: component.inputs,
      previousNames: component.previousNames,
      backfill: component.backfill,
      ...(component.maxLagBytes === undefined ? {} : { maxLagBytes: component.maxLagBytes }),
      retry: retryOf(component.options["retry"]),
    }));
}

const DEFAULT_RETRY: RetryPlan = { initialMs: 250, maxMs: 30000, maxAttempts: 0 };

function retryOf(option: unknown): RetryPlan {
  if (typeof option !== "object" || option === null) return DEFAULT_RETRY;
  const retry = option as { initial_ms?: number; max_ms?: number; max_attempts?: number };
  return {
    initialMs: retry.initial_ms ?? DEFAULT_RETRY.initialMs,
    maxMs: retry.max_ms ?? DEFAULT_RETRY.maxMs,
    maxAttempts: retry.max_attempts ?? DEFAULT_RETRY.maxAttempts,
  };
}

function taskReadinessOf(config: GeneralConfig): Plan["taskReadiness"] {
  const { max_retries: maxRetries, backoff } = config.event_systems.task_readiness.metadata.event_channel;
  const { initial_ms: initialMs, max_ms: maxMs, multiplier, jitter } = backoff;
  return { maxRetries, backoff: { initialMs, maxMs, multiplier, jitter } };
}

/** A channel's section, after the schema. */
type Section = { readonly [key: string]: unknown };

type SectionRow = Parameters<typeof overflowOf>[0] & { readonly sizeKey: string; readonly bytesKey?: string };

function channelsPlan(config: GeneralConfig): ChannelsPlan {
  const channels = config.mpsc_channels as unknown as Section & GeneralConfig["mpsc_channels"];
  const dropPolicy = channels.overflow_policy.drop_policy;
  const sizeOf = (section: Section, row: SectionRow): ChannelSize => ({
    bufferSize: section[row.sizeKey] as number,
    bufferBytes: row.bytesKey === undefined ? undefined : (section[row.bytesKey] as number),
    overflow: overflowOf(row, section["overflow"] as ChannelSize["overflow"] | undefined, dropPolicy).overflow,
    sendTimeoutMs: section["send_timeout_ms"] as number,
    ...dynamicSizeOf(section),
    ...(section["priority_lanes"] === true ? { priorityLanes: true } : {}),
    ...(section["coalesce"] === true ? { coalesce: true } : {}),
  });
  const named = (...path: string[]): ChannelSize => {
    const row = CHANNEL_SECTIONS.find((section) => section.path.join(".") === path.join("."))!;
    return sizeOf(
      path.reduce<Section>((level, name) => level[name] as Section, channels),
      row,
    );
  };
  const components = channels.components as { readonly [name: string]: Section };
  const inputs = new Map(Object.entries(components).map(([name, section]) => [name, sizeOf(section, COMPONENT_INPUT)]));
  return {
    totalBytes: channels.total_bytes,
    tailerPayload: named("sources", "tailer_manager"),
    supervisorErrors: named("runtime", "supervisor"),
    commands: named("orchestration", "command_processor"),
    eventPublisher: named("shared", "event_publisher"),
    eventStream: named("api", "event_stream"),
    tap: named("tap"),
    ofStages: (section) => named(...section.split(".")),
    input(component) {
      const size = inputs.get(component);
      if (size === undefined) throw new Error(`${component} is no transform and no sink, so that it has no input`);
      return size;
    },
    warningThreshold: channels.overflow_policy.log_warning_threshold,
  };
}

function dynamicSizeOf(section: Section): Pick<ChannelSize, "bufferSizeMin" | "bufferSizeMax"> {
  const [bufferSizeMin, bufferSizeMax] = [section["buffer_size_min"], section["buffer_size_max"]];
  return typeof bufferSizeMin === "number" && typeof bufferSizeMax === "number" ? { bufferSizeMin, bufferSizeMax } : {};
}
