import { z } from "zod";
import { StageError, toError } from "../errors.ts";
import { NatsConnector } from "../nats/connection.ts";
import { disconnect } from "../nats/disconnect.ts";
import { natsFields, natsMistakes, natsName, natsSubject, placesOf } from "../nats/options.ts";
import { defineSink, encoding, retryOptions, timeoutMs } from "../stage/index.ts";
import { JetStreamSink } from "./jetstream/jetstream-sink.ts";
import { TargetStream } from "./jetstream/target-stream.ts";

const options = z.strictObject({
  ...natsFields,
  stream: natsName("The stream to publish into."),
  subject: natsSubject("The subject to publish on. With `exactly_once` it belongs to this sink alone.", {
    wildcards: false,
  }),
  create: z.boolean().default(false).describe("Make the stream, with this one subject, if it is not there."),
  exactly_once: z
    .boolean()
    .default(true)
    .describe(
      "Keep positions in the headers of messages and chain them, so that a restart repeats nothing. false: any number of " +
        "writers may share the subject; what was in flight may come again once the stream's duplicate window is over.",
    ),
  encoding: encoding(),
  timeout_ms: timeoutMs(),
  retry: retryOptions(),
});

/**
 * Publishes each record as one message of a JetStream stream, as fast as the connection takes them, in order.
 *
 * Exactly once (see `jetstream/jetstream-sink.ts` for how): the positions stand in the headers of the messages and are
 * read back from the stream. It holds while the stream keeps the messages behind the last commit; a stream that forgets
 * what was consumed (interest or work-queue retention) is refused. The subject belongs to the sink: another sink that
 * publishes on it fences this one.
 */
export const jetstreamSink = defineSink({
  type: "jetstream",
  summary: "Publishes records into a NATS JetStream stream, each exactly once.",
  options,
  guarantee: ({ exactly_once: isExact }) => (isExact ? "exactly_once" : "at_least_once"),
  target: ({ servers, stream, subject }) => `${placesOf(servers)} ${stream} ${subject}`,
  check: natsMistakes,
  async open(checked, context) {
    return new JetStreamSink(checked, await NatsConnector.load(checked, context), context);
  },
  async probe(checked, context) {
    const connector = await NatsConnector.load(checked, context);
    const connection = await connector.connect();
    try {
      // Not made here: a probe changes nothing.
      const target = await TargetStream.of(connector, connection, { ...checked, create: false });
      await target.state(context.name).catch((thrown: unknown) => {
        if (thrown instanceof StageError || !checked.create || !/there is no stream/.test(toError(thrown).message))
          throw thrown;
      });
    } finally {
      await disconnect(connection);
    }
  },
});
