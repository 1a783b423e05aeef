import { z } from "zod";
import type { OverflowPolicy } from "../channel/index.ts";

/**
 * Every section below `[mpsc_channels]`: one row each, from which the schema, the defaults, the plan and `explain` are
 * made. Sizes are the designs' base values, in every environment.
 */
export interface ChannelSection {
  /** Below `mpsc_channels`. */
  readonly path: readonly string[];
  /** The key that holds the capacity in messages, and its default. */
  readonly sizeKey: string;
  readonly size: number;
  /** The key that bounds the bytes, where records travel. */
  readonly bytesKey?: string;
  readonly bytes?: number;
  /** Default of `send_timeout_ms`; 0: refuse at once under `error`, no report under `block`. */
  readonly sendTimeoutMs?: number;
  /** The designed overflow policy; without one `overflow_policy.drop_policy` holds. */
  readonly designed?: OverflowPolicy;
  /** Why another policy than the designed one is refused here. */
  readonly isAlways?: string;
  /** Why the code that sends here can neither wait nor fail: under `block` and `error` it drops the newest. */
  readonly neverWaits?: string;
  /** What makes no sense here, each with the reason. */
  readonly refuses?: Refusals;
  readonly summary: string;
}

/** What a channel may do beside queueing: two keys, and the pair `buffer_size_min` and `buffer_size_max`. */
export type ChannelFeature = "priority_lanes" | "coalesce" | "dynamic_size";

type Refusals = Partial<Record<ChannelFeature, string>>;

const COMMANDS = "commands must not get lost";

const REFUSED_FOR_RECORDS: Refusals = {
  priority_lanes: "the records of a file keep their order, so that none may overtake another",
  coalesce: "of records that are merged into one all but one would be lost",
};
const REFUSED_FOR_COMMANDS: Refusals = {
  priority_lanes: "commands are carried out in the order in which they were given",
  coalesce: "every command has an answer of its own",
};

function refusedAltogether(reason: string): Refusals {
  return { priority_lanes: reason, coalesce: reason, dynamic_size: reason };
}

const SECTIONS = [
  {
    path: ["sources", "tailer_manager"],
    sizeKey: "payload_buffer_size",
    size: 1024,
    bytesKey: "payload_buffer_bytes",
    bytes: 67108864,
    designed: "block",
    isAlways: "what a source has read must not get lost",
    refuses: REFUSED_FOR_RECORDS,
    summary: "The one channel of each file source: created by its TailerManager, cloned to each Tailer.",
  },
  {
    path: ["orchestration", "command_processor"],
    sizeKey: "command_buffer_size",
    size: 1000,
    designed: "block",
    isAlways: COMMANDS,
    refuses: REFUSED_FOR_COMMANDS,
    summary: "Commands to the agent: reload, pause, resume, rotate, flush, drain, stop, ...; refused when it is full.",
  },
  {
    path: ["orchestration", "event_listeners"],
    sizeKey: "pgmq_event_buffer_size",
    size: 10000,
    designed: "block",
    summary: "Notifications of queues; large, for bursts.",
  },
  {
    path: ["task_readiness", "event_channel"],
    sizeKey: "buffer_size",
    size: 1000,
    sendTimeoutMs: 1000,
    refuses: {
      priority_lanes: "tasks are announced in the order in which they became due",
      coalesce: "every task runs by itself",
    },
    summary: "Tasks that became due: retries and redeliveries of handlers; refused ones stay due.",
  },
  {
    path: ["worker", "command_processor"],
    sizeKey: "command_buffer_size",
    size: 1000,
    designed: "block",
    isAlways: COMMANDS,
    refuses: REFUSED_FOR_COMMANDS,
    summary: "Commands to the workers of handlers: scale, stop, check.",
  },
  {
    path: ["worker", "in_process_events"],
    sizeKey: "broadcast_buffer_size",
    size: 1000,
    refuses: refusedAltogether("each receiver of a broadcast has a queue of its own, of fixed size and in order"),
    summary: "What happens in the pools of handlers, for modules that listen.",
  },
  {
    path: ["shared", "event_publisher"],
    sizeKey: "event_queue_buffer_size",
    size: 5000,
    designed: "drop_newest",
    neverWaits: "who has something to tell must not be held up by who listens",
    summary: "Lifecycle events on their way to whoever listens.",
  },
  {
    path: ["shared", "ffi"],
    sizeKey: "ruby_event_buffer_size",
    size: 1000,
    designed: "error",
    refuses: { coalesce: "every message to a foreign handler has an answer of its own" },
    summary: "Messages to handlers; nothing new above `log_warning_threshold`, so that what comes back has room.",
  },
  {
    path: ["runtime", "supervisor"],
    sizeKey: "error_buffer_size",
    size: 64,
    // The first errors tell what happened; the rest are counted.
    designed: "drop_newest",
    neverWaits: "who reports an error must not be held up by it",
    refuses: refusedAltogether("the first errors are kept, in their order, and the rest is counted"),
    summary: "Errors of the stages on their way to the supervisor, which keeps the first and counts the rest.",
  },
  {
    path: ["api", "event_stream"],
    sizeKey: "buffer_size",
    size: 1000,
    // Nobody who looks may hold up what is looked at.
    designed: "drop_newest",
    neverWaits: "nobody who looks may hold up what is looked at",
    refuses: refusedAltogether("each listener has a queue of its own, of fixed size and in order"),
    summary: "Events on their way to the listeners of the API.",
  },
  {
    path: ["tap"],
    sizeKey: "buffer_size",
    size: 1000,
    // `tap` shows records without disturbing them.
    designed: "drop_newest",
    neverWaits: "a tap must never slow down what it shows",
    refuses: refusedAltogether("a tap shows records as they pass, as many as have room, and counts the rest"),
    summary: "Records on their way to each `tailrace tap`.",
  },
] as const satisfies readonly ChannelSection[];

export const CHANNEL_SECTIONS: readonly ChannelSection[] = SECTIONS;

/** Each component's own input, below `mpsc_channels.components.NAME`. */
const INPUT = {
  sizeKey: "buffer_size",
  size: 1000,
  bytesKey: "buffer_bytes",
  bytes: 67108864,
  refuses: REFUSED_FOR_RECORDS,
  summary: "The component's own input.",
} as const satisfies Omit<ChannelSection, "path">;

export const COMPONENT_INPUT: Omit<ChannelSection, "path"> = INPUT;

/** The budget of all bytes in flight. */
const TOTAL_BYTES = 16777216;

const OVERFLOW_POLICIES = ["block", "drop_newest", "drop_oldest", "error"] as const;

/** A ring of more slots than this would take gigabytes before its first message. */
const MAX_CAPACITY = 2 ** 24;

const capacity = () => z.int().min(1).max(MAX_CAPACITY);

function sectionSchema(section: Omit<ChannelSection, "path">) {
  const bytes =
    section.bytesKey === undefined
      ? {}
      : {
          [section.bytesKey]: z.int().min(1).default(section.bytes!).describe("Bytes; a larger message enters alone."),
        };
  return z
    .strictObject({
      [section.sizeKey]: capacity().default(section.size).describe(`${section.summary} Messages.`),
      ...bytes,
      ...behaviour(section.sendTimeoutMs ?? 0),
    })
    .prefault({});
}

/** What every channel has beside its sizes. */
const behaviour = (sendTimeoutMs: number) => ({
  overflow: z.enum(OVERFLOW_POLICIES).optional().describe("What happens when the channel is full."),
  send_timeout_ms: z
    .int()
    .min(0)
    .default(sendTimeoutMs)
    .describe("Under `error`, the longest wait; under `block`, when waiting is reported (0: never). Milliseconds."),
  buffer_size_min: capacity().optional().describe("Lower end of dynamic sizing, messages; only with a maximum."),
  buffer_size_max: capacity().optional().describe("Upper end of dynamic sizing, messages; only with a minimum."),
  priority_lanes: z.boolean().default(false).describe("Whether critical messages overtake the others."),
  coalesce: z.boolean().default(false).describe("Whether equal messages that wait become one."),
});

/** The schema of `[mpsc_channels]`; `inputs` are the names of the components that have an input. */
export function channelsSchema(inputs: readonly string[]) {
  const components = Object.fromEntries(inputs.map((name) => [name, COMPONENT_INPUT_SCHEMA]));
  return z
    .strictObject({
      total_bytes: z.int().min(1).default(TOTAL_BYTES).describe("The budget of all bytes in flight."),
      ...SECTION_SCHEMAS,
      components: z.strictObject(components).prefault({}),
      overflow_policy: OVERFLOW_POLICY_SCHEMA,
    })
    .prefault({});
}

const OVERFLOW_POLICY_SCHEMA = z
  .strictObject({
    log_warning_threshold: z
      .number()
      .gt(0)
      .max(1)
      .default(0.8)
      .describe("A channel that is fuller than this is told once; a fraction of 1."),
    drop_policy: z
      .enum(OVERFLOW_POLICIES)
      .default("block")
      .describe("The overflow of every channel that has none of its own and no designed one."),
  })
  .prefault({});

interface Nested {
  [name: string]: Nested | z.ZodType;
}

function nestedSections(): Nested {
  const nested: Nested = {};
  for (const section of CHANNEL_SECTIONS) {
    let level = nested;
    for (const name of section.path.slice(0, -1)) {
      level[name] ??= {};
      level = level[name] as Nested;
    }
    level[section.path.at(-1)!] = sectionSchema(section);
  }
  return nested;
}

function objectsOf(nested: Nested): { [name: string]: z.ZodType } {
  return Object.fromEntries(
    Object.entries(nested).map(([name, child]) => [
      name,
      child instanceof z.ZodType ? child : z.strictObject(objectsOf(child)).prefault({}),
    ]),
  );
}

// Made once: zod compiles each schema at its first use, which costs more than everything else of a load.
const SECTION_SCHEMAS = objectsOf(nestedSections());
/** `[mpsc_channels.components.NAME]`. */
export const COMPONENT_INPUT_SCHEMA = sectionSchema(COMPONENT_INPUT);

/** Where an overflow policy comes from: the section itself, its design, or the general `drop_policy`. */
export function overflowOf(
  section: Pick<ChannelSection, "designed" | "isAlways">,
  own: OverflowPolicy | undefined,
  dropPolicy: OverflowPolicy,
): { readonly overflow: OverflowPolicy; readonly from: "own" | "designed" | "drop_policy" } {
  if (own !== undefined) return { overflow: own, from: "own" };
  if (section.designed !== undefined) return { overflow: section.designed, from: "designed" };
  return { overflow: dropPolicy, from: "drop_policy" };
}

type SectionInput<Section extends Omit<ChannelSection, "path">> = { [Key in Section["sizeKey"]]?: number } & {
  [Key in Section extends { readonly bytesKey: infer Bytes extends string } ? Bytes : never]?: number;
} & z.input<z.ZodObject<ReturnType<typeof behaviour>>>;

type At<Path extends readonly string[], Value> = Path extends readonly [
  infer Name extends string,
  ...infer Rest extends readonly string[],
]
  ? { [Key in Name]?: At<Rest, Value> }
  : Value;

type AllOf<Union> = (Union extends unknown ? (one: Union) => void : never) extends (all: infer All) => void
  ? All
  : never;

type Section = (typeof SECTIONS)[number];

/** `[mpsc_channels]` as a person writes it. The schema is made of rows, so that its own type does not know their keys. */
export type ChannelsInput = {
  total_bytes?: number;
  overflow_policy?: z.input<typeof OVERFLOW_POLICY_SCHEMA>;
  components?: { [name: string]: SectionInput<typeof INPUT> };
} & AllOf<Section extends infer Row ? (Row extends Section ? At<Row["path"], SectionInput<Row>> : never) : never>;
