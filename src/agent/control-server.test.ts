import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { AgentControl } from "./control.ts";
import { ControlServer } from "./control-server.ts";

describe("ControlServer", () => {
  it("takes 128 connections at once; what comes beyond is closed at once", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tailrace-control-"));
    const path = join(folder, "control.sock");
    const server = new ControlServer(path, {} as AgentControl);
    await server.listen();
    const sockets: Socket[] = [];
    let closed = 0;
    for (let connection = 0; connection < 140; connection += 1) {
      const socket = connect(path);
      socket.on("error", () => {});
      socket.on("close", () => {
        closed += 1;
      });
      sockets.push(socket);
      await once(socket, "connect");
    }
    await expect.poll(() => closed).toBe(12);
    for (const socket of sockets) socket.destroy();
    await server.close();
    rmSync(folder, { recursive: true });
  });
});
