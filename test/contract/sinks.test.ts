import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "vitest";
import { handler } from "../../src/sinks/handler.ts";
import { http } from "../../src/sinks/http.ts";
import { tcp } from "../../src/sinks/tcp.ts";
import { HttpReceiver } from "../../src/testing/http-receiver.ts";
import { LineReceiver } from "../../src/testing/line-receiver.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { type SinkHarness, sinkContract } from "../../src/testing/sink-contract.ts";

const context = sinkContext();

const harnesses: readonly SinkHarness[] = [
  {
    definition: tcp,
    context,
    async target() {
      const receiver = new LineReceiver();
      await receiver.start();
      return {
        options: { address: receiver.address, timeout_ms: 2000 },
        lines: () => receiver.lines,
        connections: () => receiver.connections,
        kill: () => receiver.kill(),
        start: () => receiver.start(),
        stall: () => receiver.stall(),
        close: () => receiver.kill(),
      };
    },
  },
  {
    definition: handler,
    context,
    async target() {
      const folder = mkdtempSync(join(tmpdir(), "tailrace-handler-"));
      const output = join(folder, "events.ndjson");
      const module = join(folder, "task.mjs");
      writeFileSync(output, "");
      const note = `appendFileSync(${JSON.stringify(output)}, JSON.stringify(event) + "\\n")`;
      writeFileSync(module, `import { appendFileSync } from "node:fs";\nexport default (event) => ${note};\n`);
      return {
        // One worker: several keep no order.
        options: { module, concurrency: 1 },
        lines: () => readFileSync(output, "utf8").split("\n").slice(0, -1),
        close: async () => rmSync(folder, { recursive: true, force: true }),
      };
    },
  },
  {
    definition: http,
    context,
    async target() {
      const receiver = new HttpReceiver();
      await receiver.start();
      return {
        options: { url: receiver.url },
        lines: () => receiver.lines,
        connections: () => receiver.connections,
        kill: () => receiver.kill(),
        start: () => receiver.start(),
        stall: () => {
          receiver.answer = () => "hang";
        },
        close: () => receiver.kill(),
      };
    },
  },
];

for (const harness of harnesses) {
  describe(`${harness.definition.type}, as a sink`, () => {
    for (const { title, run } of sinkContract(harness)) it(title, run, 15_000);
  });
}
