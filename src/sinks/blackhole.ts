import { z } from "zod";
import { defineSink, delivered } from "../stage/index.ts";

/** Takes everything and keeps nothing: for benchmarks, and for trying a configuration out. */
export const blackholeSink = defineSink({
  type: "blackhole",
  summary: "Takes records and keeps nothing of them.",
  options: z.strictObject({}),
  guarantee: "at_least_once",
  open: async () => ({
    write: async () => delivered(),
    async [Symbol.asyncDispose]() {},
  }),
});
