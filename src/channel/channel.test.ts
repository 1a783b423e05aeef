import { getEventListeners } from "node:events";
import { describe, expect, expectTypeOf, it } from "vitest";
import { ChannelClosedError, ChannelFullError, ConfigError } from "../errors.ts";
import { channel, type Receiver, type Sender } from "./channel.ts";
import type { ChannelClock } from "./clock.ts";
import type { ChannelCounters } from "./counters.ts";
import { OVERFLOW_POLICIES } from "./options.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

/** What became of a promise by the time that everything that could run has run. */
async function stateOf(promise: Promise<unknown>): Promise<string> {
  const pending = Symbol();
  await turn();
  const result = await Promise.race([promise, Promise.resolve(pending)]).then(
    (value) => (value === pending ? "pending" : "resolved"),
    () => "rejected",
  );
  return result;
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function stepClock(): ChannelClock & { advance(ms: number): void; readonly timers: number } {
  let nowMs = 0;
  const timers = new Map<object, { atMs: number; run: () => void }>();
  return {
    monotonic: () => nowMs,
    after(ms, run) {
      const timer = { cancel: () => void timers.delete(timer) };
      timers.set(timer, { atMs: nowMs + ms, run });
      return timer;
    },
    advance(ms) {
      nowMs += ms;
      for (const [timer, { atMs, run }] of timers) {
        if (atMs > nowMs) continue;
        timers.delete(timer);
        run();
      }
    },
    get timers() {
      return timers.size;
    },
  };
}

function expectConserved(counters: ChannelCounters): void {
  const { sent, received, dropped, messages, records } = counters;
  expect(sent).toBe(received + dropped.policy + dropped.closed + messages);
  expect(records.sent).toBe(records.received + records.dropped.policy + records.dropped.closed + records.inChannel);
}

describe("channel", () => {
  it("gives values back in the order they were sent", async () => {
    const { sender, receiver } = channel<number>({ capacity: 2 });
    expect(sender.trySend(1)).toBe("sent");
    await sender.send(2);
    expect(receiver.tryRecv()).toBe(1);
    expect(await receiver.recv()).toBe(2);
    expect(receiver.tryRecv()).toBeUndefined();
  });

  it("hands a value to a receiver that waits", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const waiting = receiver.recv();
    expect(sender.trySend(1)).toBe("sent");
    expect(receiver.counters()).toMatchObject({ sent: 1, received: 1, messages: 0 });
    expect(await waiting).toBe(1);
  });

  it("serves several waiting receives in their order", async () => {
    const { sender, receiver } = channel<number>({ capacity: 4 });
    const got = [receiver.recv(), receiver.recvMany(2), receiver.recv(), receiver.recv()];
    for (const value of [1, 2, 3, 4, 5]) sender.trySend(value);
    sender.close();
    const all = (await Promise.all(got)).flat();
    expect(all.toSorted()).toEqual([1, 2, 3, 4, 5]);
    expect(all[0]).toBe(1);
    expect(receiver.closed).toBe(true);
  });

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60, "many" as unknown as number])(
    "refuses %s as a capacity and says what would be one",
    (capacity) => {
      expect(() => channel({ capacity })).toThrow(ConfigError);
      expect(() => channel({ capacity })).toThrow(/capacity: .*whole number of messages, at least 1/);
    },
  );

  it("names every wrong option at once", () => {
    const wrong = { capacity: 0, capacityBytes: -1, overflow: "spill" as "block", sendTimeoutMs: Number.NaN };
    try {
      channel(wrong);
      expect.unreachable();
    } catch (error) {
      expect((error as ConfigError).mistakes.map((mistake) => mistake.key)).toEqual([
        "capacity",
        "capacityBytes",
        "overflow",
        "sendTimeoutMs",
      ]);
    }
  });

  it("refuses a size that is no whole number, and keeps its counts", async () => {
    const { sender, receiver } = channel<number>({ capacity: 2, capacityBytes: 9, sizeOf: (value) => value });
    expect(() => sender.trySend(Number.NaN)).toThrow(/sizeOf/);
    await expect(sender.send(-1)).rejects.toThrow(/sizeOf/);
    expect(receiver.counters()).toMatchObject({ sent: 0, messages: 0, bytes: 0 });
  });

  it("has one type for its values at both ends", () => {
    const ends = channel<{ id: number }>({ capacity: 1, sizeOf: (value) => value.id });
    expectTypeOf(ends.sender).toEqualTypeOf<Sender<{ id: number }>>();
    expectTypeOf(ends.receiver).toEqualTypeOf<Receiver<{ id: number }>>();
    expectTypeOf(ends.sender.trySend).returns.toEqualTypeOf<"sent" | "full" | "closed">();
    expectTypeOf(ends.receiver.recv).returns.resolves.toEqualTypeOf<{ id: number } | undefined>();
    expectTypeOf(ends.receiver.recvMany).returns.resolves.toEqualTypeOf<{ id: number }[]>();
    // @ts-expect-error a sender takes no value of another type
    const misuse = () => ends.sender.trySend({ name: "x" });
    expect(misuse).toBeTypeOf("function");
  });
});

describe("send", () => {
  it("waits while the channel is full and enters as soon as there is room", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    await sender.send(1);
    const waiting = sender.send(2);
    expect(await stateOf(waiting)).toBe("pending");
    expect(receiver.counters()).toMatchObject({ sent: 1, messages: 1 });
    expect(receiver.tryRecv()).toBe(1);
    await waiting;
    expect(receiver.counters()).toMatchObject({ sent: 2, messages: 1 });
    expect(receiver.tryRecv()).toBe(2);
  });

  it("lets waiting senders in first come, first served, and trySend never overtakes them", async () => {
    const { sender, receiver } = channel<string>({ capacity: 1 });
    const other = sender.clone();
    sender.trySend("first");
    const sends = [sender.send("a"), other.send("b"), sender.send("c")];
    const got: (string | undefined)[] = [];
    for (let turns = 0; turns < 4; turns += 1) {
      got.push(receiver.tryRecv());
      if (turns < 3) expect(other.trySend("pushy")).toBe("full");
    }
    await Promise.all(sends);
    expect(got).toEqual(["first", "a", "b", "c"]);
  });

  it("keeps a small value behind a large one that came first", async () => {
    const { sender, receiver } = channel<number>({ capacity: 4, capacityBytes: 10, sizeOf: (value) => value });
    sender.trySend(6);
    sender.trySend(3);
    const large = sender.send(9);
    const small = sender.send(1);
    expect(await stateOf(small)).toBe("pending");
    expect(receiver.tryRecv()).toBe(6);
    expect(await stateOf(large)).toBe("pending");
    expect(receiver.tryRecv()).toBe(3);
    await Promise.all([large, small]);
    expect(await receiver.recvMany(9)).toEqual([9, 1]);
  });

  it("rejects with the reason of its signal, and the value is not in the channel", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(1);
    const abort = new AbortController();
    const reason = new Error("enough");
    const waiting = sender.send(2, { signal: abort.signal });
    abort.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(sender.send(3, { signal: abort.signal })).rejects.toBe(reason);
    sender.close();
    expect(await receiver.recvMany(9)).toEqual([1]);
    expect(receiver.counters()).toMatchObject({ sent: 1, received: 1 });
  });

  it("takes no value once its signal has aborted, even with room", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    await expect(sender.send(1, { signal: AbortSignal.abort("no") })).rejects.toBe("no");
    expect(receiver.counters().sent).toBe(0);
  });

  it("keeps its value in the channel when the signal aborts after it entered", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(1);
    const abort = new AbortController();
    const waiting = sender.send(2, { signal: abort.signal });
    receiver.tryRecv();
    abort.abort();
    await waiting;
    expect(receiver.tryRecv()).toBe(2);
  });

  it("lets the senders behind it in when an aborted large value stood in their way", async () => {
    const { sender, receiver } = channel<number>({ capacity: 4, capacityBytes: 10, sizeOf: (value) => value });
    sender.trySend(6);
    const abort = new AbortController();
    const large = sender.send(9, { signal: abort.signal });
    const small = sender.send(2);
    abort.abort();
    await expect(large).rejects.toThrow();
    await small;
    expect(await receiver.recvMany(9)).toEqual([6, 2]);
  });

  it("gives the value back in ChannelFullError when its time is over, and may be tried again", async () => {
    const clock = stepClock();
    const { sender, receiver } = channel<number>({ capacity: 1, clock });
    sender.trySend(1);
    const waiting = sender.send(2, { timeoutMs: 50 });
    clock.advance(49);
    expect(await stateOf(waiting)).toBe("pending");
    clock.advance(1);
    const error = await waiting.catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(ChannelFullError);
    expect((error as ChannelFullError).value).toBe(2);
    expect(receiver.counters().sent).toBe(1);
    const again = sender.sendTimeout(2, 50);
    receiver.tryRecv();
    await again;
    expect(clock.timers).toBe(0);
    expect(receiver.tryRecv()).toBe(2);
  });

  it("with onSlowSend is told of and waits on, again and again, until it enters", async () => {
    const clock = stepClock();
    const waited: number[] = [];
    const { sender, receiver } = channel<number>({
      capacity: 1,
      sendTimeoutMs: 50,
      onSlowSend: (waitedMs) => waited.push(waitedMs),
      clock,
    });
    sender.trySend(1);
    const waiting = sender.send(2);
    for (let step = 0; step < 12; step += 1) clock.advance(10);
    expect(waited).toEqual([50, 100]);
    receiver.tryRecv();
    await waiting;
    expect(clock.timers).toBe(0);
    const timed = sender.sendTimeout(3, 20);
    clock.advance(20);
    await expect(timed).rejects.toBeInstanceOf(ChannelFullError);
    expect(() => channel({ capacity: 1, overflow: "error", onSlowSend: () => {} })).toThrow(/onSlowSend/);
  });

  it("with a time-out of 0 refuses at once", async () => {
    const { sender } = channel<number>({ capacity: 1 });
    await sender.sendTimeout(1, 0);
    await expect(sender.sendTimeout(2, 0)).rejects.toBeInstanceOf(ChannelFullError);
  });

  it("leaves no listener on a signal that lives longer", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const { signal } = new AbortController();
    const receiving = receiver.recv({ signal });
    await sender.send(1, { signal });
    await receiving;
    await sender.send(2);
    const sending = sender.send(3, { signal });
    receiver.tryRecv();
    await sending;
    const refused = sender.send(4, { signal });
    receiver.close();
    await expect(refused).rejects.toBeInstanceOf(ChannelClosedError);
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  it("may share a signal with any number of others without Node suspecting a leak", async () => {
    const { sender } = channel<number>({ capacity: 1 });
    const warnings: string[] = [];
    const onWarning = (warning: Error) => warnings.push(warning.name);
    process.on("warning", onWarning);
    sender.trySend(0);
    const abort = new AbortController();
    const sends = Array.from({ length: 50 }, (_, value) => sender.send(value, { signal: abort.signal }));
    abort.abort();
    const outcomes = await Promise.allSettled(sends);
    await turn();
    process.off("warning", onWarning);
    expect(outcomes.every((outcome) => outcome.status === "rejected")).toBe(true);
    expect(warnings).not.toContain("MaxListenersExceededWarning");
  });
});

describe("recv", () => {
  it("resolves undefined when its signal aborts, and loses nothing", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const abort = new AbortController();
    const waiting = receiver.recv({ signal: abort.signal });
    abort.abort();
    sender.trySend(1);
    expect(await waiting).toBeUndefined();
    expect(await receiver.recv({ signal: abort.signal })).toBeUndefined();
    expect(await receiver.recv()).toBe(1);
  });

  it("gives the value that came before the abort", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const abort = new AbortController();
    const waiting = receiver.recv({ signal: abort.signal });
    sender.trySend(1);
    abort.abort();
    expect(await waiting).toBe(1);
  });

  it("is undefined at the end only after everything inside was given", async () => {
    const { sender, receiver } = channel<number>({ capacity: 2 });
    sender.trySend(1);
    sender.close();
    expect(receiver.closed).toBe(false);
    expect(await receiver.recv()).toBe(1);
    expect(receiver.closed).toBe(true);
    expect(await receiver.recv()).toBeUndefined();
  });
});

describe("recvMany", () => {
  it("waits for one value and takes all that gathered by then", async () => {
    const { sender, receiver } = channel<number>({ capacity: 8 });
    const waiting = receiver.recvMany(3);
    for (const value of [1, 2, 3, 4]) sender.trySend(value);
    expect(await waiting).toEqual([1, 2, 3]);
    expect(await receiver.recvMany(3)).toEqual([4]);
  });

  it("takes the values of waiting senders in the same go", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(1);
    const sends = [2, 3, 4].map((value) => sender.send(value));
    expect(await receiver.recvMany(3)).toEqual([1, 2, 3]);
    await Promise.all(sends);
    expect(receiver.tryRecv()).toBe(4);
  });

  it("is empty at the end, and on abort with everything left inside", async () => {
    const { sender, receiver } = channel<number>({ capacity: 2 });
    const abort = new AbortController();
    const waiting = receiver.recvMany(2, { signal: abort.signal });
    sender.trySend(1);
    abort.abort();
    expect(await waiting).toEqual([]);
    expect(await receiver.recvMany(2)).toEqual([1]);
    const last = receiver.recvMany(2);
    sender.close();
    expect(await last).toEqual([]);
  });

  it("that is aborted after an arrival passes the value on to the receive behind it", async () => {
    const { sender, receiver } = channel<number>({ capacity: 2 });
    const abort = new AbortController();
    const many = receiver.recvMany(2, { signal: abort.signal });
    const one = receiver.recv();
    sender.trySend(1);
    abort.abort();
    expect(await many).toEqual([]);
    expect(await one).toBe(1);
  });

  it("keeps the value that it was woken for from the receives behind it", async () => {
    const { sender, receiver } = channel<number>({ capacity: 2 });
    const many = receiver.recvMany(2);
    const one = receiver.recv();
    sender.trySend(1);
    expect(await many).toEqual([1]);
    expect(await stateOf(one)).toBe("pending");
    sender.trySend(2);
    expect(await one).toBe(2);
  });

  it.each(["recvMany", "tryRecv"])("ends the receives behind it when %s takes the last value", async (taker) => {
    const { sender, receiver } = channel<number>({ capacity: 2 });
    const many = receiver.recvMany(2);
    const one = receiver.recv();
    sender.trySend(1);
    sender.close();
    if (taker === "tryRecv") expect(receiver.tryRecv()).toBe(1);
    expect(await many).toEqual(taker === "tryRecv" ? [] : [1]);
    expect(await one).toBeUndefined();
  });

  it("refuses a maximum below 1", async () => {
    const { receiver } = channel<number>({ capacity: 1 });
    await expect(receiver.recvMany(0)).rejects.toThrow(/at least 1/);
  });
});

describe("iteration", () => {
  it("gives all values and ends when the last sender is closed", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const producing = (async () => {
      using own = sender.clone();
      for (let value = 0; value < 5; value += 1) await own.send(value);
    })();
    sender.close();
    const got: number[] = [];
    for await (const value of receiver) got.push(value);
    await producing;
    expect(got).toEqual([0, 1, 2, 3, 4]);
  });

  it("left by break closes the receiver and releases waiting senders with their values", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(1);
    const waiting = sender.send(2);
    const alsoWaiting = sender.send(3);
    for await (const value of receiver) {
      expect(value).toBe(1);
      break;
    }
    await waiting;
    await expect(alsoWaiting).rejects.toMatchObject({ code: "TR_CHANNEL_CLOSED", value: 3 });
    expect(sender.trySend(4)).toBe("closed");
    expect(receiver.counters().dropped.closed).toBe(1);
  });

  it("left by a throw closes the receiver", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(1);
    await expect(
      (async () => {
        for await (const _ of receiver) throw new Error("stage failed");
      })(),
    ).rejects.toThrow("stage failed");
    expect(sender.isClosed).toBe(true);
  });

  it("passes undefined on as a value", async () => {
    const { sender, receiver } = channel<undefined>({ capacity: 2 });
    sender.trySend(undefined);
    sender.close();
    let turns = 0;
    for await (const _ of receiver) turns += 1;
    expect(turns).toBe(1);
  });
});

describe("closing", () => {
  it("ends the channel with the last of its senders only", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const second = sender.clone();
    const third = second.clone();
    const waiting = receiver.recv();
    sender.close();
    sender.close();
    third.close();
    expect(await stateOf(waiting)).toBe("pending");
    expect(sender.trySend(1)).toBe("closed");
    expect(second.isClosed).toBe(false);
    second.close();
    expect(await waiting).toBeUndefined();
    expect(receiver.closed).toBe(true);
  });

  it("of a sender takes back nothing that it waits to send", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(1);
    const waiting = sender.send(2);
    sender.close();
    expect(receiver.closed).toBe(false);
    expect(await receiver.recvMany(9)).toEqual([1, 2]);
    await waiting;
    expect(receiver.closed).toBe(true);
  });

  it("of the receiver gives waiting senders their values back and drops what is inside", async () => {
    const left: [number, string][] = [];
    const { sender, receiver } = channel<number>({
      capacity: 2,
      recordsOf: () => 10,
      onDrop: (value, reason) => {
        left.push([value, reason]);
        expectConserved(sender.counters());
      },
    });
    sender.trySend(1);
    sender.trySend(2);
    const waiting = sender.send(3);
    receiver.close();
    await expect(waiting).rejects.toBeInstanceOf(ChannelClosedError);
    await expect(waiting).rejects.toMatchObject({ value: 3 });
    await expect(sender.send(4)).rejects.toMatchObject({ value: 4 });
    expect(left).toEqual([
      [1, "closed"],
      [2, "closed"],
    ]);
    expect(receiver.counters()).toMatchObject({
      sent: 2,
      dropped: { policy: 0, closed: 2 },
      records: { sent: 20, dropped: { policy: 0, closed: 20 }, inChannel: 0 },
    });
    expect(receiver.tryRecv()).toBeUndefined();
    expect(await receiver.recv()).toBeUndefined();
  });

  it("of the receiver ends its own waiting receives", async () => {
    const { receiver } = channel<number>({ capacity: 1 });
    const waiting = [receiver.recv(), receiver.recvMany(2)];
    receiver.close();
    expect(await Promise.all(waiting)).toEqual([undefined, []]);
  });

  it("rejects sends of a closed sender while others go on", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    const other = sender.clone();
    sender.close();
    await expect(sender.send(1)).rejects.toMatchObject({ code: "TR_CHANNEL_CLOSED", value: 1 });
    await other.send(2);
    expect(receiver.tryRecv()).toBe(2);
    expect(() => sender.clone()).toThrow(/closed sender/);
  });

  it("happens at the end of a using block", () => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    {
      using own = sender.clone();
      own.trySend(1);
      using _receiver = receiver;
    }
    expect(sender.isClosed).toBe(true);
  });

  it.each(["sender first", "receiver first"])("frees a value for the garbage collector: %s", (order) => {
    const { sender, receiver } = channel<number>({ capacity: 1 });
    sender.trySend(1);
    if (order === "sender first") sender.close();
    receiver.close();
    sender.close();
    expect(receiver.counters()).toMatchObject({ messages: 0, dropped: { closed: 1 } });
    expect(receiver.closed).toBe(true);
  });
});

describe("bytes", () => {
  const sized = (overflow: "block" | "drop_oldest" | "drop_newest") => {
    const dropped: number[] = [];
    const ends = channel<number>({
      capacity: 10,
      capacityBytes: 10,
      sizeOf: (value) => value,
      overflow,
      onDrop: (value) => dropped.push(value),
    });
    return { ...ends, dropped };
  };

  it("bound the channel beside messages", () => {
    const { sender, receiver } = sized("block");
    expect(sender.trySend(6)).toBe("sent");
    expect(sender.trySend(5)).toBe("full");
    expect(sender.trySend(4)).toBe("sent");
    expect(sender.trySend(1)).toBe("full");
    expect(receiver.counters()).toMatchObject({ bytes: 10, messages: 2, usagePercent: 100 });
    receiver.tryRecv();
    expect(receiver.counters()).toMatchObject({ bytes: 4, usagePercent: 40 });
  });

  it("let a message above the whole bound in alone, when the channel is empty", async () => {
    const { sender, receiver } = sized("block");
    sender.trySend(1);
    const huge = sender.send(100);
    expect(await stateOf(huge)).toBe("pending");
    receiver.tryRecv();
    await huge;
    expect(receiver.counters()).toMatchObject({ bytes: 100, messages: 1, usagePercent: 100 });
    expect(sender.trySend(0)).toBe("full");
    expect(receiver.tryRecv()).toBe(100);
    expect(sender.trySend(0)).toBe("sent");
  });

  it("under drop_oldest cost as many of the oldest as the new message needs", () => {
    const { sender, receiver, dropped } = sized("drop_oldest");
    for (const value of [3, 3, 3]) sender.trySend(value);
    expect(sender.trySend(6)).toBe("sent");
    expect(dropped).toEqual([3, 3]);
    expect(sender.trySend(100)).toBe("sent");
    expect(dropped).toEqual([3, 3, 3, 6]);
    expect(receiver.tryRecv()).toBe(100);
    expectConserved(receiver.counters());
  });

  it("are taken as they were when the message entered", () => {
    const { sender, receiver } = channel<{ size: number }>({
      capacity: 2,
      capacityBytes: 10,
      sizeOf: (value) => value.size,
      recordsOf: (value) => value.size,
    });
    const message = { size: 4 };
    sender.trySend(message);
    message.size = 9;
    receiver.tryRecv();
    expect(receiver.counters()).toMatchObject({ bytes: 0, records: { inChannel: 0, sent: 4, received: 4 } });
  });
});

describe("overflow", () => {
  it("drop_newest drops the value that finds no room, and says sent", async () => {
    const dropped: [number, string][] = [];
    const { sender, receiver } = channel<number>({
      capacity: 1,
      overflow: "drop_newest",
      onDrop: (value, reason) => {
        dropped.push([value, reason]);
        expectConserved(receiver.counters());
      },
    });
    expect([1, 2].map((value) => sender.trySend(value))).toEqual(["sent", "sent"]);
    await sender.send(3);
    expect(dropped).toEqual([
      [2, "policy"],
      [3, "policy"],
    ]);
    expect(receiver.counters()).toMatchObject({ sent: 3, dropped: { policy: 2, closed: 0 }, messages: 1 });
    expect(receiver.tryRecv()).toBe(1);
  });

  it("drop_oldest hands the oldest waiting value to onDrop", async () => {
    const dropped: [number, string][] = [];
    const { sender, receiver } = channel<number>({
      capacity: 2,
      overflow: "drop_oldest",
      onDrop: (value, reason) => {
        dropped.push([value, reason]);
        expectConserved(receiver.counters());
      },
    });
    for (const value of [1, 2, 3]) expect(sender.trySend(value)).toBe("sent");
    await sender.send(4);
    expect(dropped).toEqual([
      [1, "policy"],
      [2, "policy"],
    ]);
    expect(await receiver.recvMany(9)).toEqual([3, 4]);
  });

  it("drop_oldest takes nothing from a receiver that waits", async () => {
    const dropped: number[] = [];
    const { sender, receiver } = channel<number>({
      capacity: 1,
      overflow: "drop_oldest",
      onDrop: (value) => dropped.push(value),
    });
    const waiting = receiver.recv();
    for (const value of [1, 2, 3]) sender.trySend(value);
    expect(await waiting).toBe(1);
    expect(dropped).toEqual([2]);
  });

  it("lets onDrop send again without disturbing the counts", () => {
    let again = 2;
    const { sender, receiver } = channel<number>({
      capacity: 1,
      overflow: "drop_oldest",
      onDrop: (value) => {
        if (again === 0) return;
        again -= 1;
        sender.trySend(value + 10);
        expectConserved(receiver.counters());
      },
    });
    sender.trySend(1);
    sender.trySend(2);
    expectConserved(receiver.counters());
    expect(receiver.counters()).toMatchObject({ sent: 4, dropped: { policy: 3 }, messages: 1 });
  });

  it("error refuses at once when full, and the value counts nowhere", async () => {
    const { sender, receiver } = channel<number>({ capacity: 1, overflow: "error" });
    await sender.send(1);
    expect(sender.trySend(2)).toBe("full");
    await expect(sender.send(2)).rejects.toMatchObject({ code: "TR_CHANNEL_FULL", value: 2 });
    expect(receiver.counters()).toMatchObject({ sent: 1, messages: 1, dropped: { policy: 0 } });
  });

  it.each(["error", "block"] as const)("%s waits no longer than sendTimeoutMs", async (overflow) => {
    const clock = stepClock();
    const { sender, receiver } = channel<number>({ capacity: 1, overflow, sendTimeoutMs: 20, clock });
    await sender.send(1);
    const inTime = sender.send(2);
    clock.advance(19);
    receiver.tryRecv();
    await inTime;
    const late = sender.send(3);
    clock.advance(20);
    await expect(late).rejects.toMatchObject({ code: "TR_CHANNEL_FULL", value: 3 });
  });

  it.each(OVERFLOW_POLICIES)("%s says closed once the receiver is gone", (overflow) => {
    const { sender, receiver } = channel<number>({ capacity: 1, overflow });
    receiver.close();
    expect(sender.trySend(1)).toBe("closed");
    expect(receiver.counters().sent).toBe(0);
  });

  it("throws what onDrop throws outside of the channel, after telling every victim", async () => {
    const dropped: number[] = [];
    const { sender, receiver } = channel<number>({
      capacity: 2,
      onDrop: (value) => {
        dropped.push(value);
        throw new Error(`onDrop failed for ${value}`);
      },
    });
    const uncaught: string[] = [];
    const listeners = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", (error) => uncaught.push(error.message));
    sender.trySend(1);
    sender.trySend(2);
    receiver.close();
    await turn();
    process.removeAllListeners("uncaughtException");
    for (const listener of listeners) process.on("uncaughtException", listener);
    expect(dropped).toEqual([1, 2]);
    expect(uncaught).toEqual(["onDrop failed for 1", "onDrop failed for 2"]);
  });
});
