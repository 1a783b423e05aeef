import { z } from "zod";
import { secret } from "../stage/index.ts";
import { channelsSchema } from "./channel-sections.ts";

/*
 * The keys of a configuration, snake_case as in the TOML. Defaults, checks and (through `.describe()`) the reference
 * come from here and from the stages' own schemas, and from nowhere else.
 */

const milliseconds = () => z.int().min(0);
const bytes = () => z.int().min(1);

/** `host:port`, `[v6]:port` or `unix:/path`. */
const ADDRESS = /^(?:unix:.+|(?:\[[0-9A-Fa-f:.]+\]|[^\s:/[\]]+):(\d{1,5}))$/;

const address = () =>
  z.string().refine((text) => {
    const match = ADDRESS.exec(text);
    return match !== null && Number(match[1] ?? 0) <= 65535;
  }, 'give "host:port" or "unix:/path"');

const api = () =>
  z
    .strictObject({
      enabled: z.boolean().default(true).describe("False: there is no TCP listener at all."),
      address: address().default("127.0.0.1:7717").describe('"host:port", or "unix:/path".'),
      token: secret()
        .min(1)
        .optional()
        .describe("Needed for actions and off loopback; without one, a random one in STATE_DIR/api-token."),
      allowed_hosts: z
        .array(z.string().min(1))
        .default([])
        .describe("Further names by which clients may ask for this host, as in their Host header, without a port."),
    })
    .prefault({});

const shutdown = () =>
  z
    .strictObject({
      graceful_timeout_ms: milliseconds()
        .default(10000)
        .describe("How long a shutdown after an error may take, milliseconds."),
      on_signal_timeout_ms: milliseconds()
        .default(0)
        .describe("How long a shutdown after a signal may take, milliseconds; 0: no limit of ours."),
      sink_grace_ms: milliseconds()
        .default(0)
        .describe(
          "How long a stopping agent goes on trying a sink that does not acknowledge, milliseconds; 0: no limit.",
        ),
    })
    .prefault({});

const checkpoint = () =>
  z
    .strictObject({
      commit_interval_ms: z
        .int()
        .min(1)
        .default(100)
        .describe("What has ended is committed after so long at the latest, milliseconds."),
      commit_bytes: bytes().default(67108864).describe("A commit comes sooner after this many bytes."),
      max_uncommitted_bytes: bytes().default(268435456).describe("Sources pause at this many uncommitted bytes."),
      max_uncommitted_ms: z.int().min(1).default(30000).describe("Sources pause after this long without a commit."),
    })
    .prefault({});

const deadLetters = () =>
  z
    .strictObject({
      max_bytes: bytes()
        .default(1073741824)
        .describe("Room for refused records; when it is full, sinks retry and never drop."),
    })
    .prefault({});

const backoff = () =>
  z
    .strictObject({
      initial_ms: milliseconds().default(100).describe("First wait, milliseconds."),
      max_ms: milliseconds().default(5000).describe("Longest wait, milliseconds."),
      multiplier: z.number().min(1).max(1000).default(2).describe("Each wait is this many times the one before."),
      jitter: z.number().min(0).max(1).default(0.1).describe("Random part of each wait, a fraction of 1."),
    })
    .prefault({});

const telemetry = () =>
  z
    .strictObject({
      otlp: z
        .strictObject({
          url: z
            .string()
            .refine(isHttpUrl, 'give a URL such as "http://127.0.0.1:4318"')
            .optional()
            .describe("Where metrics are pushed to, OTLP as JSON over HTTP; without one, nothing is pushed."),
          interval_ms: z.int().min(100).default(10000).describe("How often, milliseconds."),
          timeout_ms: z.int().min(1).default(10000).describe("Longest wait for an answer, milliseconds."),
          headers: z
            .record(z.string().min(1), secret())
            .default({})
            .describe("Further headers of each request, such as an API key."),
        })
        .prefault({}),
    })
    .prefault({});

function isHttpUrl(text: string): boolean {
  return /^https?:\/\//i.test(text) && URL.canParse(text);
}

/** Behaviour only: sizes stand under `mpsc_channels`. */
const eventSystems = () =>
  z
    .strictObject({
      task_readiness: z
        .strictObject({
          metadata: z
            .strictObject({
              event_channel: z
                .strictObject({
                  max_retries: z.int().min(0).default(3).describe("How often a failed send is tried again."),
                  backoff: backoff(),
                })
                .prefault({}),
            })
            .prefault({}),
        })
        .prefault({}),
    })
    .prefault({});

const DEFAULT_STATE_DIR = "./.tailrace";

const GENERAL_KEYS = {
  state_dir: z
    .string()
    .min(1)
    .default(DEFAULT_STATE_DIR)
    .describe("Checkpoints, ledger, dead letters and control socket; one process at a time."),
  api: api(),
  telemetry: telemetry(),
  shutdown: shutdown(),
  checkpoint: checkpoint(),
  dead_letters: deadLetters(),
  event_systems: eventSystems(),
  transform_threads: z
    .int()
    .min(0)
    .max(64)
    .default(0)
    .describe(
      "Threads for each run of transforms that parse or map, one behind the other; 0: in the agent's own. See docs/guide/operating.md.",
    ),
};

/** Everything but the components; `inputs` are the names of those that have an input channel. */
export function generalSchema(inputs: readonly string[]) {
  return z.strictObject({ ...GENERAL_KEYS, mpsc_channels: channelsSchema(inputs) });
}

const previousNames = () =>
  z.array(z.string().min(1)).default([]).describe("Names it had before; their positions are taken over.");

const type = () => z.string().describe("Which kind it is.");

const inputs = () => z.array(z.string()).default([]).describe("Names of what it reads from.");

/** The keys that every component of a kind has beside those of its own type. */
export const COMMON_KEYS = {
  sources: z.object({ type: type(), previous_names: previousNames() }),
  transforms: z.object({ type: type(), inputs: inputs(), previous_names: previousNames() }),
  sinks: z.object({
    type: type(),
    inputs: inputs(),
    previous_names: previousNames(),
    backfill: z
      .boolean()
      .default(false)
      .describe("Whether a new sink gets what its sources have read already (true) or only what comes (false)."),
    required: z
      .boolean()
      .default(true)
      .describe(
        "Whether it holds its sources back while it is behind (true), or drops what comes beyond `max_lag_bytes`, counted (false).",
      ),
    max_lag_bytes: bytes()
      .default(16777216)
      .describe("With required = false: how many bytes it may be behind what was read; in memory of its own."),
  }),
} as const;

export type ComponentSection = keyof typeof COMMON_KEYS;
export const COMPONENT_SECTIONS: readonly ComponentSection[] = ["sources", "transforms", "sinks"];

export type GeneralConfig = z.infer<ReturnType<typeof generalSchema>>;
export type GeneralInput = z.input<ReturnType<typeof generalSchema>>;
