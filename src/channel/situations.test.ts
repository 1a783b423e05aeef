import { describe, expect, it } from "vitest";
import { ChannelClosedError, ChannelFullError } from "../errors.ts";
import { channel, type Receiver, type Sender } from "./channel.ts";
import { setUnclosedHook } from "./unclosed.ts";

/*
 * The situations in which Tokio tests its bounded channel (tokio/tests/sync_mpsc.rs), retold for this one: closing in
 * every order, cancelling in the middle of a send and of a receive, fairness, and permits. A permit there is a place that
 * a sender holds before it has a value; here a place is held by the value that waits, so that the same questions are
 * asked of a send that waits: who gets the place that it gives up?
 */

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let isSettled = false;
  const settle = () => {
    isSettled = true;
  };
  promise.then(settle, settle);
  await turn();
  return !isSettled;
}

/** Every order of some steps. */
function ordersOf<T>(steps: readonly T[]): T[][] {
  if (steps.length === 0) return [[]];
  return steps.flatMap((step, at) => ordersOf(steps.toSpliced(at, 1)).map((rest) => [step, ...rest]));
}

describe("closing in every order", () => {
  type Step = "send" | "close sender" | "close clone" | "close receiver" | "receive";
  const orders = ordersOf<Step>(["send", "close sender", "close clone", "close receiver", "receive"]);

  it.each(orders.map((order) => [order.join(", "), order] as const))("%s", async (_, order) => {
    const dropped: number[] = [];
    const { sender, receiver } = channel<number>({ capacity: 1, onDrop: (value) => dropped.push(value) });
    const clone = sender.clone();
    const steps: Record<Step, () => void> = {
      send: () => void outcomes.push(sender.trySend(1)),
      "close sender": () => sender.close(),
      "close clone": () => clone.close(),
      "close receiver": () => receiver.close(),
      receive: () => void received.push(receiver.tryRecv()),
    };
    const outcomes: string[] = [];
    const received: (number | undefined)[] = [];
    for (const step of order) steps[step]();

    const isBefore = (one: Step, other: Step) => order.indexOf(one) < order.indexOf(other);
    const isSent = isBefore("send", "close sender") && isBefore("send", "close receiver");
    const isReceived = isSent && isBefore("send", "receive") && isBefore("receive", "close receiver");
    expect(outcomes).toEqual([isSent ? "sent" : "closed"]);
    expect(received).toEqual([isReceived ? 1 : undefined]);
    expect(dropped).toEqual(isSent && !isReceived ? [1] : []);
    expect(receiver.closed).toBe(true);
    expect(await receiver.recv()).toBeUndefined();
    expect(await receiver.recvMany(2)).toEqual([]);
    expect(receiver.counters()).toMatchObject({
      messages: 0,
      sent: isSent ? 1 : 0,
      received: isReceived ? 1 : 0,
      dropped: { policy: 0, closed: isSent && !isReceived ? 1 : 0 },
    });
    await expect(clone.send(2)).rejects.toBeInstanceOf(ChannelClosedError);
  });

  it("the receiver first: what was sent before is dropped, what waited goes back, in the order of sending", async () => {
    const ends: unknown[] = [];
    const { sender, receiver } = channel<number>({ capacity: 2, onDrop: (value) => ends.push(value) });
    const sends = [1, 2, 3, 4].map((value) => sender.send(value));
    const back = sends.slice(2).map((send) => send.catch((error: ChannelClosedError) => ends.push(error.value)));
    receiver.close();
    await Promise.all(back);
    expect(ends).toEqual([1, 2, 3, 4]);
  });

  it("the last sender first: a receive that waits ends, and every one after it", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const waiting = [receiver.recv(), receiver.recvMany(1), receiver[Symbol.asyncIterator]().next()];
    sender.close();
    expect(await Promise.all(waiting)).toEqual([undefined, [], { done: true, value: undefined }]);
  });

  it("a sender with sends that wait: the channel ends only after them, also where some of them give up", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const abort = new AbortController();
    sender.trySend(1);
    const given = sender.send(2);
    const givenUp = sender.send(3, { signal: abort.signal });
    sender.close();
    abort.abort("enough");
    await expect(givenUp).rejects.toBe("enough");
    expect(await receiver.recvMany(9)).toEqual([1, 2]);
    await given;
    expect(receiver.closed).toBe(true);
  });
});

describe("cancelled in the middle of a send", () => {
  const ways: readonly [string, (sender: Sender<number>, value: number) => { sent: Promise<void>; cancel(): void }][] =
    [
      [
        "by its signal",
        (sender, value) => {
          const abort = new AbortController();
          return { sent: sender.send(value, { signal: abort.signal }), cancel: () => abort.abort("cancelled") };
        },
      ],
    ];

  it.each(ways)("%s, its place in the line goes to the next, and its value nowhere", async (_, begin) => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(0);
    const sends = [1, 2, 3].map((value) => begin(sender, value));
    sends[1]?.cancel();
    await expect(sends[1]?.sent).rejects.toBe("cancelled");
    expect(await receiver.recvMany(9)).toEqual([0, 1, 3]);
    expect(receiver.counters()).toMatchObject({ sent: 3, received: 3, messages: 0 });
  });

  it.each(ways)("%s, in the same turn in which room came: it is sent, and not lost", async (_, begin) => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(0);
    const { sent, cancel } = begin(sender, 1);
    receiver.tryRecv();
    cancel();
    await sent;
    expect(receiver.tryRecv()).toBe(1);
  });

  it.each(ways)("%s, in the same turn in which the receiver closed: the receiver was first", async (_, begin) => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(0);
    const { sent, cancel } = begin(sender, 1);
    receiver.close();
    cancel();
    await expect(sent).rejects.toMatchObject({ code: "TR_CHANNEL_CLOSED", value: 1 });
  });

  it("by the time, it leaves the room that came too late to the next", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(0);
    const late = sender.sendTimeout(1, 1);
    const next = sender.send(2);
    await expect(late).rejects.toBeInstanceOf(ChannelFullError);
    expect(await isPending(next)).toBe(true);
    expect(receiver.tryRecv()).toBe(0);
    await next;
    expect(receiver.tryRecv()).toBe(2);
  });
});

describe("cancelled in the middle of a receive", () => {
  type Receive = (receiver: Receiver<number>, signal: AbortSignal) => Promise<unknown>;
  const ways: readonly [string, Receive, unknown][] = [
    ["recv", (receiver, signal) => receiver.recv({ signal }), undefined],
    ["recvMany", (receiver, signal) => receiver.recvMany(5, { signal }), []],
  ];

  it.each(ways)("%s takes nothing with it", async (_, receive, nothing) => {
    const { sender, receiver } = channel<number>({ capacity: 2 });
    const abort = new AbortController();
    const cancelled = receive(receiver, abort.signal);
    abort.abort();
    sender.trySend(1);
    expect(await cancelled).toEqual(nothing);
    expect(receiver.tryRecv()).toBe(1);
  });

  it.each(ways)("%s among others that wait: the value goes to the next of them", async (_, receive, nothing) => {
    const { sender, receiver } = channel<number>({ capacity: 2 });
    const abort = new AbortController();
    const cancelled = receive(receiver, abort.signal);
    const next = receiver.recv();
    abort.abort();
    sender.trySend(1);
    expect(await cancelled).toEqual(nothing);
    expect(await next).toBe(1);
  });

  it.each(ways)("%s, in the same turn in which a value came: one of the receives has it", async (_, receive) => {
    const { sender, receiver } = channel<number>({ capacity: 2 });
    const abort = new AbortController();
    const first = receive(receiver, abort.signal);
    const next = receiver.recv();
    sender.trySend(1);
    abort.abort();
    sender.close();
    const got = [await first, await next].flat().filter((value) => value !== undefined);
    expect(got).toEqual([1]);
  });
});

describe("fairness", () => {
  it("senders in a loop are served in turns, whatever their number", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const senders = [0, 1, 2, 3].map(async (number) => {
      using own = sender.clone();
      for (let sent = 0; sent < 25; sent += 1) await own.send(number);
    });
    sender.close();
    const got: number[] = [];
    for await (const value of receiver) got.push(value);
    await Promise.all(senders);
    // Each sends again only after its last value entered: among any eight in a row there is one of everybody.
    for (let at = 8; at + 8 < got.length - 8; at += 1) expect(new Set(got.slice(at, at + 8)).size).toBe(4);
  });

  it("one that only ever tries never gets in before one that waits", async () => {
    const { sender, receiver } = channel<string>({ capacity: 2 });
    sender.trySend("a");
    sender.trySend("b");
    const waiting = sender.send("patient");
    const tries: string[] = [];
    const got: (string | undefined)[] = [];
    for (let turns = 0; turns < 3; turns += 1) {
      tries.push(sender.trySend("pushy"));
      got.push(receiver.tryRecv());
    }
    await waiting;
    expect(got).toEqual(["a", "b", "patient"]);
    expect(tries).toEqual(["full", "full", "sent"]);
  });

  it("receives are served in turns", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const got: [number, number][] = [];
    const receivers = [0, 1, 2].map(async (number) => {
      for (let value = await receiver.recv(); value !== undefined; value = await receiver.recv())
        got.push([number, value]);
    });
    for (let value = 0; value < 9; value += 1) {
      await sender.send(value);
      await turn();
    }
    sender.close();
    await Promise.all(receivers);
    expect(got.map(([number]) => number)).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2]);
  });
});

describe("permits", () => {
  it("there are exactly as many as the capacity says, and each receive gives one back", () => {
    for (const capacity of [1, 2]) {
      const { sender, receiver } = channel<number>({ capacity });
      for (let rounds = 0; rounds < 3; rounds += 1) {
        for (let held = 0; held < capacity; held += 1) expect(sender.trySend(held)).toBe("sent");
        expect(sender.trySend(9)).toBe("full");
        for (let held = 0; held < capacity; held += 1) expect(receiver.tryRecv()).toBe(held);
      }
    }
  });

  it("one that is given up is neither lost nor given twice", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    for (let rounds = 0; rounds < 50; rounds += 1) {
      const abort = new AbortController();
      sender.trySend(rounds);
      const waiting = sender.send(-1, { signal: abort.signal });
      abort.abort("no");
      await expect(waiting).rejects.toBe("no");
      expect(sender.trySend(-2)).toBe("full");
      expect(receiver.tryRecv()).toBe(rounds);
    }
    expect(sender.trySend(1)).toBe("sent");
    expect(sender.trySend(2)).toBe("full");
  });

  it("more bytes than there are is one for everything: it waits for all, and nobody passes meanwhile", async () => {
    const { sender, receiver } = channel<number>({ capacity: 9, capacityBytes: 4, sizeOf: (value) => value });
    sender.trySend(2);
    sender.trySend(2);
    const everything = sender.send(100);
    expect(sender.trySend(0)).toBe("full");
    receiver.tryRecv();
    expect(await isPending(everything)).toBe(true);
    receiver.tryRecv();
    await everything;
    expect(receiver.counters()).toMatchObject({ messages: 1, bytes: 100 });
  });

  it("a capacity that grows lets as many in as it grew by, in their order", async () => {
    const { ChannelCore } = await import("./core.ts");
    const core = new ChannelCore<number>({ capacity: 1 });
    core.openSender();
    core.offer(1);
    const waits = [2, 3, 4].map((value) => core.waitToSend(value, undefined, undefined));
    expect(core.resize(3)).toBe(3);
    await Promise.all(waits.slice(0, 2));
    expect(core.takeMany(9)).toEqual([1, 2, 3, 4]);
    expect(core.resize(1)).toBe(1);
    expect(core.offer(5)).toBe("sent");
    expect(core.offer(6)).toBe("full");
  });
});
