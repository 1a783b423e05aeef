import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Json } from "../../src/checkpoint/index.ts";
import type { Batch } from "../../src/record/index.ts";
import { jetstreamSink } from "../../src/sinks/jetstream.ts";
import type { Marks, Outcome, Sink } from "../../src/stage/index.ts";
import { linesBatch } from "../../src/testing/memory-stages.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { eventually, NatsServers, readStream } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";

const signal = new AbortController().signal;

/** What the pipeline and its store are to one sink. */
class Keeper {
  readonly marks = new Map<string, Json>();
  readonly warnings: string[] = [];
  readonly #options: object;

  constructor(options: object) {
    this.#options = options;
  }

  async open(): Promise<Sink> {
    const log = { error() {}, warn: (_: object, text: string) => void this.warnings.push(text), info() {}, debug() {} };
    return jetstreamSink.open(
      jetstreamSink.options.parse(this.#options),
      sinkContext({
        marks: new Map(this.marks),
        saveMarks: async (marks) => this.save(marks),
        log: { ...log, child: () => ({ ...log, child: () => sinkContext().log }) },
      }),
    );
  }

  save(marks: Marks): void {
    for (const [name, value] of Object.entries(marks)) if (value !== undefined) this.marks.set(name, value);
  }

  async commit(sink: Sink): Promise<void> {
    this.save(await sink.prepare!());
  }
}

/** A batch of lines `KEY FROM` to `KEY TO`, at the offset where the first stands in its file. */
function lines(key: string, from: number, to: number): Batch {
  const textOf = (number: number) => `${key} ${String(number).padStart(6, "0")}`;
  const texts = Array.from({ length: to - from }, (_, index) => textOf(from + index));
  return linesBatch("app", key, from * (textOf(0).length + 1), texts);
}

async function deliver(sink: Sink, batch: Batch): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (let tries = 0; tries < 100; tries += 1) {
    const outcome = await sink.write(batch, { signal, way: "" });
    outcomes.push(outcome);
    if (outcome.kind === "delivered") return outcomes;
    if (outcome.kind === "retry" && outcome.isOutcomeUnknown) await eventually(() => sink.recover!());
  }
  throw new Error(`not delivered: ${JSON.stringify(outcomes.at(-1))}`);
}

describe.skipIf(!needs("nats-server"))("jetstream sink", () => {
  let servers: NatsServers;
  let connection: NatsConnection;
  let streams = 0;

  beforeAll(async () => {
    servers = await NatsServers.start();
    connection = await connect({ servers: servers.urls });
  });
  afterAll(async () => {
    await connection?.close();
    await servers?.[Symbol.asyncDispose]();
  });

  const keeper = (over: object = {}) => {
    streams += 1;
    const stream = `S${streams}`;
    const options = {
      servers: servers.urls,
      stream,
      subject: `s${streams}.app`,
      create: true,
      encoding: "text",
      ...over,
    };
    return { stream, subject: options.subject, kept: new Keeper(options) };
  };
  const bodies = async (stream: string) => (await readStream(connection, stream)).map(({ body }) => body);
  const expected = (key: string, to: number) =>
    lines(key, 0, to).records.map((record) => String(record.event["message"]));

  it("publishes each record as one message with an id of its own, in order", async () => {
    const { stream, kept } = keeper({ encoding: "json" });
    await using sink = await kept.open();
    await sink.recover!();
    for (let from = 0; from < 5000; from += 1000) await deliver(sink, lines("a", from, from + 1000));
    const messages = await readStream(connection, stream);
    expect(messages.map(({ body }) => (JSON.parse(body) as { message: string }).message)).toEqual(expected("a", 5000));
    expect(new Set(messages.map(({ id }) => id)).size).toBe(5000);
  });

  it("repeats nothing after a crash at any moment between two commits, whichever way the replay is cut", async () => {
    const { stream, kept } = keeper();
    {
      await using sink = await kept.open();
      await sink.recover!();
      await deliver(sink, lines("a", 0, 100));
      await kept.commit(sink);
      await deliver(sink, lines("a", 100, 250));
      await deliver(sink, lines("b", 0, 10));
      // It dies here, with everything behind 100 uncommitted.
    }
    await using sink = await kept.open();
    const { positions } = await sink.recover!();
    const line = lines("a", 0, 1).byteLength;
    expect(positions.map(({ file, value }) => ({ file, ...value }))).toEqual([
      { file: "a", prefix: 0, ranges: [{ start: 100 * line, end: 250 * line }] },
      { file: "b", prefix: 10 * line, ranges: [] },
    ]);
    await deliver(sink, lines("a", 100, 160));
    await deliver(sink, lines("a", 160, 300));
    await deliver(sink, lines("b", 0, 20));
    const found = await bodies(stream);
    for (const [key, count] of [
      ["a", 300],
      ["b", 20],
    ] as const)
      expect(found.filter((body) => body.startsWith(key))).toEqual(expected(key, count));
  });
});
