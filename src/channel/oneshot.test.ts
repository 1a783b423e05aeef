import { describe, expect, it } from "vitest";
import { oneshot } from "./oneshot.ts";

describe("oneshot", () => {
  it("carries one value, sent before or after the receiver waits", async () => {
    const early = oneshot<number>();
    expect(early.sender.send(1)).toBe("sent");
    expect(await early.receiver.recv()).toBe(1);
    const late = oneshot<number>();
    const waiting = late.receiver.recv();
    expect(late.sender.send(2)).toBe("sent");
    expect(await waiting).toBe(2);
    expect(late.receiver.closed).toBe(true);
    expect(await late.receiver.recv()).toBeUndefined();
  });

  it("refuses a second value", () => {
    const { sender, receiver } = oneshot<number>();
    sender.send(1);
    expect(sender.send(2)).toBe("closed");
    expect(receiver.tryRecv()).toBe(1);
    expect(sender.send(3)).toBe("closed");
  });

  it("ends without a value when the sender gives up", async () => {
    const { sender, receiver } = oneshot<number>();
    const waiting = receiver.recv();
    sender.close();
    expect(await waiting).toBeUndefined();
    expect(receiver.closed).toBe(true);
  });

  it("keeps an answer that was sent before the sender closed", async () => {
    const { sender, receiver } = oneshot<number>();
    sender.send(1);
    sender.close();
    expect(await receiver.recv()).toBe(1);
  });

  it("tells the sender that nobody wants an answer any more, and refuses it", () => {
    const { sender, receiver } = oneshot<number>();
    receiver.close();
    expect(sender.unwanted.aborted).toBe(true);
    expect(sender.send(1)).toBe("closed");
  });

  it("hands an answer that was never taken to onDrop", () => {
    const dropped: [number, string][] = [];
    const { sender, receiver } = oneshot<number>({ onDrop: (value, reason) => dropped.push([value, reason]) });
    sender.send(1);
    receiver.close();
    receiver.close();
    expect(dropped).toEqual([[1, "closed"]]);
  });

  it("loses nothing when a recv is aborted", async () => {
    const { sender, receiver } = oneshot<number>();
    const abort = new AbortController();
    const waiting = receiver.recv({ signal: abort.signal });
    abort.abort();
    expect(await waiting).toBeUndefined();
    sender.send(1);
    expect(await receiver.recv({ signal: abort.signal })).toBeUndefined();
    expect(await receiver.recv()).toBe(1);
  });
});
