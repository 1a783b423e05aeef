// The real program with three more stages, each of which fails in the way that its options say. Arguments as for
// `tailrace`.
import { z } from "zod";
import { processIo } from "../../dist/cli/io.js";
import { main } from "../../dist/cli/main.js";
import { defineSink, defineSource, defineTransform, delivered } from "../../dist/index.js";
import { builtInStages } from "../../dist/stages.js";

const never = () => new Promise(() => {});

/** Reads nothing, and fails, when `fails` says so. */
const source = defineSource({
  type: "broken_source",
  summary: "Fails.",
  replay: "replayable",
  options: z.strictObject({ fails: z.enum(["at_once", "when_stopped"]) }),
  async open({ fails }, context) {
    const { sender, receiver } = context.channel();
    return {
      output: receiver,
      async run({ signal }) {
        try {
          if (fails === "when_stopped") {
            await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
          }
          throw new Error("the device is gone");
        } finally {
          sender.close();
        }
      },
      async [Symbol.asyncDispose]() {},
    };
  },
});

/** Throws at a record with the message "bad", until somebody has mended it. */
const transform = defineTransform({
  type: "broken_transform",
  summary: "Throws.",
  options: z.strictObject({}),
  open: async () => ({
    apply(records) {
      if (process.env["MENDED"] !== "yes" && records.some((record) => record.event.message === "bad"))
        throw new TypeError("event.user is undefined");
      return { kept: records };
    },
  }),
});

/** Takes everything, but for what `fails` says. */
const sink = defineSink({
  type: "broken_sink",
  summary: "Fails, or hangs.",
  options: z.strictObject({ fails: z.enum(["at_write", "hangs_at_write", "hangs_at_close"]) }),
  guarantee: "at_least_once",
  open: async ({ fails }, { log }) => ({
    async write() {
      if (fails === "at_write") throw new Error("the wire is cut");
      if (fails === "hangs_at_write") {
        log.info({}, "hanging");
        await never();
      }
      return delivered();
    },
    async [Symbol.asyncDispose]() {
      if (fails === "hangs_at_close") await never();
    },
  }),
});

const stages = {
  sources: [...builtInStages.sources, source],
  transforms: [...builtInStages.transforms, transform],
  sinks: [...builtInStages.sinks, sink],
};
process.exit(await main(process.argv.slice(2), { ...processIo(), stages }));
