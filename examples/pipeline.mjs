// Follows files from code, with the agent's own engine and checkpoints: run it twice, nothing is delivered twice.
//   node examples/pipeline.mjs '/var/log/*.log' collected.ndjson state
import { fileSink, fileSource, pipeline } from "tailrace";

const [glob = "/var/log/*.log", output = "out/collected.ndjson", stateDir = "out/pipeline-state"] =
  process.argv.slice(2);

await pipeline()
  .from(fileSource, { include: [glob] })
  .through((event) => ({ ...event, team: "checkout" }))
  .into(fileSink, { path: output })
  .run({ stateDir, once: true });
