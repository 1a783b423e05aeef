import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import type { ApiView } from "./app.ts";
import { ApiServer } from "./server.ts";

const view = { stuck: () => [], notReady: () => [] } as unknown as ApiView;

async function opened() {
  const server = await ApiServer.open(
    { enabled: true, address: "127.0.0.1:0", token: undefined, allowedHosts: [] },
    "token",
    view,
  );
  const { port } = new URL(server.address);
  return { server, port: Number(port) };
}

describe("ApiServer", () => {
  it("takes 128 connections at once; what comes beyond is closed at once", async () => {
    const { server, port } = await opened();
    const sockets: Socket[] = [];
    let closed = 0;
    for (let connection = 0; connection < 140; connection += 1) {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.on("close", () => {
        closed += 1;
      });
      sockets.push(socket);
      await once(socket, "connect");
    }
    await expect.poll(() => closed).toBe(12);
    sockets[0]!.destroy();
    await expect.poll(() => closed).toBe(13);
    const answer = await fetch(`http://127.0.0.1:${port}/live`);
    expect(answer.status).toBe(200);
    for (const socket of sockets) socket.destroy();
    await server.close();
  });

  it("hangs up on headers above 16 KiB", async () => {
    const { server, port } = await opened();
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write(`GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ${"x".repeat(17 * 1024)}\r\n\r\n`);
    let said = "";
    socket.on("data", (bytes: Buffer) => {
      said += bytes.toString("latin1");
    });
    await once(socket, "close");
    expect(said).toBe("");
    await server.close();
  });
});
