import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { ControlClient } from "./control-client.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** An agent's side of the socket, and how many connections there were. */
async function answering(answer: RequestListener): Promise<{ client: ControlClient; connections: () => number }> {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-control-"));
  cleanups.push(() => rmSync(folder, { recursive: true }));
  let connections = 0;
  const server = createServer(answer).on("connection", () => {
    connections += 1;
  });
  await new Promise<void>((resolve) => server.listen(join(folder, "control.sock"), resolve));
  cleanups.push(() => new Promise((resolve) => server.close(resolve).closeAllConnections()));
  return { client: new ControlClient(folder), connections: () => connections };
}

describe("ControlClient", () => {
  it("asks each question on a connection of its own, so that none meets one that the agent has closed meanwhile", async () => {
    const { client, connections } = await answering((_, response) => response.end("{}"));
    expect(await client.isRunning()).toBe(true);
    expect(await client.post("/dlq/purge", { ids: [] })).toEqual({});
    expect(connections()).toBe(2);
  });

  it("says in one sentence that the agent went away", async () => {
    const { client } = await answering((request) => request.socket.destroy());
    await expect(client.post("/dlq/purge", { ids: ["x"] })).rejects.toMatchObject({
      code: "TR_STATE_UNUSABLE",
      message: expect.stringMatching(/^the agent went away before it had answered \(ECONNRESET\)/),
    });
  });

  it("says in one sentence that the agent went away in the middle of its answer", async () => {
    const { client } = await answering((_, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write("{", () => response.destroy());
    });
    await expect(client.get("/status")).rejects.toMatchObject({ code: "TR_STATE_UNUSABLE" });
  });

  it("gives the reason of a refusal", async () => {
    const { client } = await answering((_, response) => response.writeHead(500).end('{"message":"no room"}'));
    await expect(client.get("/status")).rejects.toThrow("the running agent refused: no room");
  });
});
