import type { Msg, NatsConnection } from "@nats-io/transport-node";
import { describe, expect, it } from "vitest";
import type { NatsClient } from "../../nats/connection.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Publisher } from "./publisher.ts";

const signal = new AbortController().signal;

/** A connection that notes what is published, and answers when it is told to. */
class Wire {
  readonly replies: string[] = [];
  #answer: ((error: null, message: Msg) => void) | undefined;

  readonly client = {
    transport: {
      createInbox: () => "inbox",
      headers: () => ({ append() {} }),
    },
  } as unknown as NatsClient;

  readonly connection = {
    subscribe: (_subject: string, { callback }: { callback: (error: null, message: Msg) => void }) => {
      this.#answer = callback;
      return { unsubscribe() {} };
    },
    publish: (_subject: string, _body: Uint8Array, { reply }: { reply: string }) => void this.replies.push(reply),
    closed: () => new Promise<void>(() => {}),
    status: () => ({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }),
  } as unknown as NatsConnection;

  answer(index: number, answer: object): void {
    const message = { subject: this.replies[index]!, data: Buffer.from("{}"), json: () => answer };
    this.#answer!(null, message as unknown as Msg);
  }
}

const messages = (count: number, bytes = 1) =>
  Array.from({ length: count }, (_, index) => ({ id: `${index}`, body: Buffer.alloc(bytes), place: undefined }));

function publish(wire: Wire, count: number, bytes?: number, timeoutMs = 60_000) {
  const { connection, client } = wire;
  const publisher = new Publisher({ connection, client, clock: systemClock, subject: "s" });
  return publisher.publish(messages(count, bytes), { expect: undefined, timeoutMs, signal });
}

const turn = () => new Promise((next) => setImmediate(next));

describe("Publisher", () => {
  it("has no more than 2048 messages unanswered, and sends one for each that is answered", async () => {
    const wire = new Wire();
    const published = publish(wire, 3000);
    await turn();
    expect(wire.replies.length).toBe(2048);
    wire.answer(0, { stream: "S", seq: 1 });
    await turn();
    expect(wire.replies.length).toBe(2049);
    for (let index = 1; index < 3000; index += 1) {
      wire.answer(index, { stream: "S", seq: index + 1 });
      await turn();
    }
    expect((await published).answers.every((answer) => answer?.kind === "stored")).toBe(true);
  });

  it("has no more than 4 MiB unanswered, and a larger message alone", async () => {
    const wire = new Wire();
    void publish(wire, 10, 1_000_000);
    await turn();
    expect(wire.replies.length).toBe(4);
    const large = new Wire();
    void publish(large, 2, 5_000_000);
    await turn();
    expect(large.replies.length).toBe(1);
  });

  it("sends nothing behind a message that was not stored, and waits for the answers of those that are under way", async () => {
    const wire = new Wire();
    const published = publish(wire, 3000);
    await turn();
    wire.answer(0, { stream: "S", seq: 1 });
    wire.answer(1, { error: { code: 400, err_code: 10070, description: "wrong last msg ID" } });
    for (let index = 2; index < 2048; index += 1) wire.answer(index, { error: { err_code: 10070 } });
    const { answers, silence } = await published;
    expect(wire.replies.length).toBeLessThan(2060);
    expect(answers.slice(0, 2)).toEqual([
      { kind: "stored", sequence: 1 },
      { kind: "refused", code: 10070, reason: "wrong last msg ID" },
    ]);
    expect(silence).toBeUndefined();
  });

  it("says what has no answer when none comes in time", async () => {
    const wire = new Wire();
    const published = publish(wire, 2, 1, 20);
    await turn();
    wire.answer(0, { stream: "S", seq: 1, duplicate: true });
    expect(await published).toEqual({
      answers: [{ kind: "duplicate", sequence: 1 }, undefined],
      silence: "no answer for 20 ms",
    });
  });
});
