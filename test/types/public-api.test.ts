import { describe, expectTypeOf, it } from "vitest";
import { z } from "zod";
import {
  type Batch,
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
  type Outcome,
  type Pipeline,
  pipeline,
  type Receiver,
  rejected,
  retry,
  type Sender,
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

  it("of a configuration refuse what it does not know", () => {
    expectTypeOf(defineConfig).toBeCallableWith({
      sources: { app: { type: "file", include: ["*.log"] } },
      sinks: { out: { type: "file", inputs: ["app"], path: "out" } },
    });
    // @ts-expect-error a sink has inputs
    expectTypeOf(defineConfig).toBeCallableWith({ sinks: { out: { type: "file", path: "out" } } });
    // @ts-expect-error there is no such section
    expectTypeOf(defineConfig).toBeCallableWith({ chekpoint: { commit_interval_ms: 5 } });
  });
});
