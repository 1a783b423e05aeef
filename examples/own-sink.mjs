// A sink of your own is one object: say what became of a batch, and retry, order, dead letters and positions are done.
//   node examples/own-sink.mjs '/var/log/*.log' state
import { defineSink, delivered, fileSource, pipeline, rejected } from "tailrace";
import { z } from "zod";

const shout = defineSink({
  type: "shout",
  summary: "Prints each message in capitals.",
  options: z.strictObject({ mark: z.string().default("!").describe("What each line ends with.") }),
  guarantee: "at_least_once",
  async open({ mark }) {
    return {
      async write(batch) {
        const messages = batch.records.map(({ event }) => String(event.message));
        // A batch that can never be taken is halved until the bad record stands alone; that one is a dead letter.
        if (messages.some((message) => message.includes("secret"))) return rejected("it holds a secret");
        for (const message of messages) console.log(message.toUpperCase() + mark);
        return delivered();
      },
      async [Symbol.asyncDispose]() {},
    };
  },
});

const [glob = "/var/log/*.log", stateDir = "out/own-sink-state"] = process.argv.slice(2);
await pipeline()
  .from(fileSource, { include: [glob] })
  .into(shout, {})
  .run({ stateDir, once: true });
