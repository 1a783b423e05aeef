import { EventEmitter } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { SMALL, sampleStages } from "../../test/config/sample-stages.ts";
import type { CliStream } from "./io.ts";
import { main } from "./main.ts";

/** Has its pipe full after each line. */
class FullPipe extends EventEmitter implements CliStream {
  readonly lines: string[] = [];

  write(line: string): boolean {
    this.lines.push(line);
    setImmediate(() => this.emit("drain"));
    return false;
  }
}

it("a tap whose reader is slow leaves no listener behind with each full pipe", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-cli-tap-"));
  const stateDir = join(folder, "state");
  mkdirSync(stateDir);
  writeFileSync(join(folder, "tailrace.toml"), SMALL);
  const server = createServer((request, response) => {
    if (!request.url!.startsWith("/tap")) return response.end("{}");
    return response.end(Array.from({ length: 200 }, (_, index) => `{"message":"${index}"}\n`).join(""));
  });
  await new Promise<void>((resolve) => server.listen(join(stateDir, "control.sock"), resolve));
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on("warning", onWarning);
  const stdout = new FullPipe();
  try {
    const io = { stdout, stderr: { write: () => true }, env: {}, cwd: folder, exitCode: 0, stages: sampleStages };
    expect(await main(["tap", "app", "--state-dir", stateDir], io)).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(stdout.lines).toHaveLength(200);
    expect(stdout.listenerCount("drain")).toBe(0);
    expect(warnings).toEqual([]);
  } finally {
    process.off("warning", onWarning);
    server.close().closeAllConnections();
    rmSync(folder, { recursive: true, force: true });
  }
});
