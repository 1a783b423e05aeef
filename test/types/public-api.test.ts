import { describe, expectTypeOf, it } from "vitest";
import { z } from "zod";
import {
  type Batch,
  builtInStages,
  ChannelClosedError,
  channel,
  defineConfig,
  defineSink,
  delivered,
  type ErrorCode,
  type EventFields,
  fileSink,
  fileSource,
  type LifecycleEvent,
  type MapFunction,
  type Outcome,
  type Pipeline,
  pipeline,
  type Receiver,
  rejected,
  retry,
  type Sender,
  type SinkDefinition,
  type StageList,
  type TailraceError,
} from "../../src/index.ts";

/*
 * What the compiler promises to who uses the library. `npm run check` is what fails here; running it only shows that the
 * names are there.
 */
describe("types", () => {
  it("of a channel carry its values to both ends", () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    expectTypeOf(sender).toExtend<Sender<number>>();
    expectTypeOf(receiver).toExtend<Receiver<number>>();
    expectTypeOf(sender.trySend(1)).toEqualTypeOf<"sent" | "full" | "closed">();
    expectTypeOf(receiver.tryRecv()).toEqualTypeOf<number | undefined>();
    expectTypeOf(receiver.recvMany(4)).toEqualTypeOf<Promise<number[]>>();
    // @ts-expect-error a channel of numbers takes no text
    sender.trySend("1");
    // @ts-expect-error a channel without a bound does not exist
    expectTypeOf(channel<number>).toBeCallableWith({});
    // @ts-expect-error there are four overflow policies
    expectTypeOf(channel<number>).toBeCallableWith({ capacity: 1, overflow: "drop" });
    sender.close();
    receiver.close();
  });

  it("of a refused value bring it back", () => {
    expectTypeOf<ChannelClosedError<Date>["value"]>().toEqualTypeOf<Date>();
    expectTypeOf(new ChannelClosedError(1)).toExtend<TailraceError>();
    expectTypeOf<TailraceError["code"]>().toEqualTypeOf<ErrorCode>();
  });

  it("of a stage follow its options", () => {
    defineSink({
      type: "typed",
      summary: "For the compiler.",
      options: z.strictObject({ count: z.number().default(1) }),
      guarantee: "at_least_once",
      async open(options) {
        expectTypeOf(options).toEqualTypeOf<{ count: number }>();
        return {
          async write(batch) {
            expectTypeOf(batch).toEqualTypeOf<Batch>();
            expectTypeOf(batch.records[0]!.event).toEqualTypeOf<EventFields>();
            return delivered();
          },
          async [Symbol.asyncDispose]() {},
        };
      },
    });
    expectTypeOf(retry("later", { afterMs: 5 })).toEqualTypeOf<Outcome>();
    expectTypeOf(rejected("never")).toEqualTypeOf<Outcome>();
  });

  it("of a pipeline check the options of its stages", () => {
    const made = pipeline()
      .from(fileSource, { include: ["*.log"] })
      .into(fileSink, { path: "out" });
    expectTypeOf(made).toEqualTypeOf<Pipeline>();
    // @ts-expect-error a file source must be told what to include
    pipeline().from(fileSource, { exclude: [] });
    // @ts-expect-error there is no such encoding
    pipeline().from(fileSource, { include: [] }).into(fileSink, { path: "out", encoding: "xml" });
    // @ts-expect-error it needs a state directory
    expectTypeOf(made.run).toBeCallableWith({});
  });

  it("of an event tell its facts by its name", () => {
    const facts = (event: LifecycleEvent) => (event.event === "gap" ? event.facts.offset : undefined);
    expectTypeOf(facts).returns.toEqualTypeOf<number | undefined>();
  });

  describe("of a configuration", () => {
    const sources = { app: { type: "file", include: ["*.log"] } } as const;
    const out = { type: "blackhole", inputs: ["app"] } as const;

    it("know every stage by its type, and what all of a kind have", () => {
      defineConfig({
        state_dir: "state",
        checkpoint: { commit_interval_ms: 5 },
        mpsc_channels: {
          total_bytes: 1000,
          overflow_policy: { drop_policy: "block" },
          sources: { tailer_manager: { payload_buffer_size: 5, payload_buffer_bytes: 500 } },
          orchestration: { command_processor: { command_buffer_size: 5 }, event_listeners: { overflow: "block" } },
          tap: { buffer_size: 5, send_timeout_ms: 10 },
          components: { file: { buffer_size: 5, buffer_size_min: 1, buffer_size_max: 10, coalesce: false } },
        },
        sources: {
          app: { type: "file", include: ["*.log"], read_from: "end", previous_names: ["old"] },
          in: { type: "stdin" },
          queue: { type: "pgmq", url: "postgres://there", queue: "tasks" },
        },
        transforms: { keep: { type: "filter", inputs: ["app"], condition: "true" } },
        sinks: {
          file: { type: "file", inputs: ["keep"], path: "out", backfill: true },
          none: { type: "blackhole", inputs: ["queue", "in"] },
          there: { type: "tcp", inputs: ["app"], address: "there:1", retry: { max_attempts: 3 } },
        },
      });
      // A substitution takes the type of its key, as in the TOML.
      defineConfig({
        api: { enabled: `\${API}` },
        sources: { q: { type: "stdin", max_line_bytes: `\${BYTES:-100}` } },
      });
    });

    it("refuse what it does not know", () => {
      // @ts-expect-error there is no such section
      defineConfig({ chekpoint: { commit_interval_ms: 5 } });
      // @ts-expect-error there is no such key of a section
      defineConfig({ checkpoint: { comit_interval_ms: 5 } });
      // @ts-expect-error a section's key has a type
      defineConfig({ checkpoint: { commit_interval_ms: "soon" } });
      // @ts-expect-error there is no such channel
      defineConfig({ mpsc_channels: { orchestration: { comand_processor: { command_buffer_size: 5 } } } });
      // @ts-expect-error the size of this one has another name
      defineConfig({ mpsc_channels: { orchestration: { command_processor: { buffer_size: 5 } } } });
      // @ts-expect-error this one is counted in messages only
      defineConfig({ mpsc_channels: { tap: { buffer_bytes: 5 } } });
      // @ts-expect-error there is no such policy
      defineConfig({ mpsc_channels: { components: { out: { overflow: "wait" } } } });
      // @ts-expect-error a file source has no such key
      defineConfig({ sources: { app: { type: "file", include: ["*.log"], inclde: 5 } } });
      // @ts-expect-error it must be told what to include
      defineConfig({ sources: { app: { type: "file" } } });
      // @ts-expect-error which is a list
      defineConfig({ sources: { app: { type: "file", include: "*.log" } } });
      // @ts-expect-error one of two words
      defineConfig({ sources: { app: { type: "file", include: [], read_from: "middle" } } });
      // @ts-expect-error there is no such type
      defineConfig({ sources: { app: { type: "fil", include: ["*.log"] } } });
      // @ts-expect-error a sink is no source
      defineConfig({ sources: { app: { type: "blackhole" } } });
      // @ts-expect-error a source reads from nothing else
      defineConfig({ sources: { app: { type: "stdin", inputs: ["b"] } } });
      // @ts-expect-error a sink has inputs
      defineConfig({ sinks: { out: { type: "file", path: "out" } } });
      // @ts-expect-error a blackhole has no options
      defineConfig({ sinks: { out: { ...out, path: "out" } } });
      // @ts-expect-error nor has a table in a table such a key
      defineConfig({ sinks: { out: { type: "tcp", inputs: ["app"], address: "a:1", retry: { max_atempts: 3 } } } });
    });

    it("tell a function of `map` what it gets and may give", () => {
      const mapped = (event: EventFields) => ({ ...event, n: 1 });
      defineConfig({
        sources,
        transforms: {
          one: {
            type: "map",
            inputs: ["app"],
            function: (event) => {
              expectTypeOf(event).toEqualTypeOf<EventFields>();
              return event["drop"] === true ? undefined : [event, { more: true }];
            },
          },
          later: { type: "map", inputs: ["one"], function: async (event) => event, concurrency: 4 },
          named: { type: "map", inputs: ["one"], function: mapped },
          module: { type: "map", inputs: ["one"], module: "./shape.ts" },
        },
      });
      expectTypeOf(mapped).toExtend<MapFunction>();
      // @ts-expect-error a number is no event
      defineConfig({ transforms: { one: { type: "map", inputs: ["app"], function: () => 5 } } });
      // @ts-expect-error an event is no number
      defineConfig({ transforms: { one: { type: "map", inputs: ["app"], function: (n: number) => ({ n }) } } });
      // @ts-expect-error a module is a file
      defineConfig({ transforms: { one: { type: "map", inputs: ["app"], module: mapped } } });
    });

    it("take stages of one's own that are named", () => {
      const own = defineSink({
        type: "own",
        summary: "For the compiler.",
        options: z.strictObject({ count: z.number().default(1), call: z.custom<(batch: Batch) => void>() }),
        guarantee: "at_least_once",
        open: async () => ({ write: async () => delivered(), async [Symbol.asyncDispose]() {} }),
      });
      const loose: SinkDefinition = own;
      const stages = { ...builtInStages, sinks: [...builtInStages.sinks, own] } as const;
      defineConfig<typeof stages>({
        sources,
        sinks: {
          out,
          mine: { type: "own", inputs: ["app"], count: 2, call: (batch) => expectTypeOf(batch).toEqualTypeOf<Batch>() },
        },
      });
      // @ts-expect-error its options are typed as well
      defineConfig<typeof stages>({ sinks: { mine: { type: "own", inputs: ["app"], cont: 2, call: () => {} } } });
      // @ts-expect-error nobody knows it unless it is named
      defineConfig({ sinks: { mine: { type: "own", inputs: ["app"], count: 2, call: () => {} } } });
      // Of a definition whose type says nothing, any name and key may be right.
      const some = { ...builtInStages, sinks: [loose] };
      defineConfig<typeof some>({ sinks: { mine: { type: "own", inputs: ["app"], anything: 2 } } });
      // A list that is known when it runs only takes what `loadPlan` takes.
      defineConfig<StageList>({ sources: { app: { type: "own", url: "there" } } });
    });
  });
});
