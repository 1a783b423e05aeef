import { describe, expect, it } from "vitest";
import { PoolBench, queueMessage, type ScriptedWorker } from "./pool-bench.test-kit.ts";

describe("HandlerPool", () => {
  it("gives a message to a free worker at once, and ends it with the answer", async () => {
    const bench = await PoolBench.start();
    bench.offer("a");
    expect(bench.newest.given).toMatchObject([{ attempt: 1, event: { message: "a" } }]);
    expect(bench.endings).toEqual([]);
    bench.newest.ok();
    expect(bench.endings).toEqual(["a done"]);
    await bench.stop();
  });

  it("keeps the others in the channel until a worker is free, in order", async () => {
    const bench = await PoolBench.start({ capacity: 10, workers: 2 });
    for (const text of ["a", "b", "c", "d"]) bench.offer(text);
    const [one, two] = bench.workers as [ScriptedWorker, ScriptedWorker];
    expect([bench.holds(one), bench.holds(two), bench.pool.waiting]).toEqual([["a"], ["b"], 2]);
    two.ok();
    one.ok();
    expect([bench.holds(one), bench.holds(two)]).toEqual([
      ["a", "d"],
      ["b", "c"],
    ]);
    await bench.stop();
  });

  it("tries a failed message again after its backoff, and refuses it for good after max_attempts", async () => {
    const bench = await PoolBench.start();
    bench.offer("a");
    const worker = bench.newest;
    worker.error();
    await bench.clock.advance(99);
    expect(worker.given).toHaveLength(1);
    await bench.clock.advance(1);
    expect(worker.given[1]).toMatchObject({ attempt: 2 });
    worker.error();
    await bench.clock.advance(200);
    expect(worker.given[2]).toMatchObject({ attempt: 3 });
    worker.error();
    expect(bench.endings).toEqual(["a refused: odd (given up after attempt 3)"]);
    expect(bench.failures).toBe(2);
    await bench.stop();
  });

  it("refuses at once what asks for no retry", async () => {
    const bench = await PoolBench.start();
    bench.offer("a");
    bench.newest.error(false);
    expect(bench.endings).toEqual(["a refused: odd"]);
    await bench.stop();
  });

  it("counts attempts on from the queue's read count, and tries each message once at least", async () => {
    const bench = await PoolBench.start({ maxAttempts: 5 });
    bench.dispatch.offer(bench.pool, bench.task("read often", queueMessage({ read_count: 4 })));
    expect(bench.newest.given[0]).toMatchObject({ attempt: 4 });
    bench.newest.error();
    await bench.clock.advance(100);
    expect(bench.newest.given[1]).toMatchObject({ attempt: 5 });
    bench.newest.error();
    bench.dispatch.offer(bench.pool, bench.task("too often", queueMessage({ read_count: 9 })));
    expect(bench.newest.given[2]).toMatchObject({ attempt: 9 });
    bench.newest.error();
    expect(bench.endings.map((ending) => ending.replace(/:.*/, ""))).toEqual([
      "read often refused",
      "too often refused",
    ]);
    // A field of a line that happens to have this name says nothing.
    const line = bench.task("a line");
    expect(line.attempt).toBe(1);
    await bench.stop();
  });

  it("ends a worker whose message takes too long, kills one that ignores that, and tries the message again", async () => {
    const bench = await PoolBench.start({ timeoutMs: 1000 });
    bench.offer("a");
    const worker = bench.newest;
    worker.obeys = false;
    await bench.clock.advance(999);
    bench.pool.check();
    expect(worker.wasTerminated).toBe(false);
    await bench.clock.advance(1);
    bench.pool.check();
    expect([worker.wasTerminated, worker.wasKilled]).toEqual([true, false]);
    // Too late.
    worker.ok();
    expect(bench.endings).toEqual([]);
    await bench.clock.advance(500);
    expect(worker.wasKilled).toBe(true);
    const next = await bench.worker(1);
    expect(await bench.given(next, 0)).toMatchObject({ attempt: 2 });
    next.ok();
    expect(bench.endings).toEqual(["a done"]);
    await bench.stop();
  });

  it("ends a worker that breaks the protocol, and answers for it", async () => {
    const bench = await PoolBench.start({ maxAttempts: 2 });
    bench.offer("warm up");
    bench.newest.ok();
    bench.offer("a");
    const [first] = bench.workers as [ScriptedWorker];
    first.listener.broken("it wrote a line that is no JSON");
    expect(first.wasKilled).toBe(true);
    const next = await bench.worker(1);
    await bench.given(next, 0);
    next.listener.answer({ id: "something else", ok: true, events: 0 });
    await bench.worker(2);
    await bench.clock.advance(60_000);
    expect(bench.endings.at(-1)).toMatch(
      /^a refused: its worker was ended: it answered a message that it was not given: "something else" \(given up after attempt 2\)$/,
    );
    await bench.stop();
  });

  it("lets a second answer go, and tells of it once", async () => {
    const bench = await PoolBench.start();
    bench.offer("a");
    bench.newest.ok();
    bench.newest.ok(0);
    bench.newest.error(true, 0);
    expect([bench.endings, bench.newest.wasKilled, bench.pool.repeatedAnswers]).toEqual([["a done"], false, 2]);
    await bench.stop();
  });

  describe("whose worker died", () => {
    it("blames a message whose worker has answered before, and finds out the one that kills each", async () => {
      const bench = await PoolBench.start({ maxAttempts: 2, capacity: 10 });
      bench.offer("good");
      bench.newest.ok();
      bench.offer("poison");
      bench.newest.end();
      // The next worker is started at once, and has other things to do until the poison's backoff is over.
      const second = await bench.worker(1);
      bench.offer("other");
      second.ok();
      expect(await bench.given(second, 1)).toMatchObject({ attempt: 2, event: { message: "poison" } });
      second.end();
      expect(bench.endings.at(-1)).toBe(
        "poison refused: its worker was ended: it exited with code 1 (given up after attempt 2)",
      );
      expect(bench.troubles).toEqual([]);
      await bench.stop();
    });

    it("holds an accused message until a worker has lived without one, and then counts the death", async () => {
      const bench = await PoolBench.start({ maxAttempts: 2 });
      bench.offer("poison");
      // It lived 200 ms in all: nobody knows whether it would have lived longer without the message.
      await bench.clock.advance(200);
      bench.newest.end();
      const second = await bench.worker(1);
      await bench.clock.advance(999);
      expect(second.given).toEqual([]);
      expect(bench.failures).toBe(0);
      await bench.clock.advance(1);
      expect(bench.failures).toBe(1);
      expect(await bench.given(second, 0)).toMatchObject({ attempt: 2 });
      second.end();
      expect(bench.endings).toEqual([
        "poison refused: its worker was ended: it exited with code 1 (given up after attempt 2)",
      ]);
      await bench.stop();
    });

    it("clears the messages of a program that dies as it starts, with one clear error and growing waits", async () => {
      let isBroken = true;
      const starts: number[] = [];
      const bench = await PoolBench.start({
        maxAttempts: 1,
        onStart: (worker, clock) => {
          starts.push(clock.monotonic());
          worker.listener.ready();
          if (isBroken) clock.after(50, () => worker.end());
        },
      });
      bench.offer("innocent");
      bench.newest.end();
      await bench.clock.runUntil(() => starts.length > 10, { limitMs: 600_000 });
      expect(bench.endings).toEqual([]);
      expect(bench.events).toEqual(["handler_worker_died", "handler_failing"]);
      expect(bench.troubles).toEqual(["its workers cannot be started: it exited with code 1"]);
      const waits = starts.slice(1).map((at, index) => at - starts[index]!);
      expect(waits.at(-1)).toBeGreaterThan(10_000);
      expect(waits.every((wait) => wait >= 50)).toBe(true);
      isBroken = false;
      await bench.clock.runUntil(() => bench.newest.given.length > 0);
      // Cleared: still the first attempt.
      expect(bench.newest.given[0]).toMatchObject({ attempt: 1 });
      bench.newest.ok();
      expect(bench.endings).toEqual(["innocent done"]);
      expect(bench.troubles.at(-1)).toBeUndefined();
      expect(bench.events.at(-1)).toBe("handler_recovered");
      await bench.stop();
    });

    it("never takes a program that fails late in its start for a poisonous message", async () => {
      const bench = await PoolBench.start({
        maxAttempts: 2,
        onStart: (worker, clock) => {
          worker.listener.ready();
          // Ten seconds of loading, then a missing library.
          clock.after(10_000, () => worker.end());
        },
      });
      bench.offer("innocent");
      await bench.clock.advance(300_000);
      expect(bench.endings).toEqual([]);
      expect(bench.workers.length).toBeGreaterThan(5);
      await bench.stop();
    });

    it("does not charge a message for a program that cannot start, however uneven its starts are under load", async () => {
      const lives = [100, 900, 300, 1100, 250, 990][Symbol.iterator]();
      const bench = await PoolBench.start({
        maxAttempts: 1,
        onStart: (worker, clock) => {
          worker.listener.ready();
          clock.after(lives.next().value ?? 2000, () => worker.end());
        },
      });
      bench.offer("innocent");
      await bench.clock.advance(300_000);
      expect(bench.endings).toEqual([]);
      expect(bench.workers.length).toBeGreaterThan(6);
      await bench.stop();
    });

    it("accuses no message while it is known that the program cannot start", async () => {
      let isBroken = true;
      const bench = await PoolBench.start({
        workers: 2,
        capacity: 10,
        maxAttempts: 1,
        onStart: (worker, clock) => {
          if (isBroken) clock.after(50, () => worker.end());
          else worker.onGiven = (at) => clock.after(1, () => worker.ok(at));
          worker.listener.ready();
        },
      });
      const names = ["a", "b", "c", "d"];
      for (const name of names) bench.offer(name);
      await bench.clock.runUntil(() => bench.troubles.length > 0);
      // One dies with a message once that is known; the next one starts, and answers.
      const known = bench.workers.length;
      const hasDiedAtWork = ({ given, hasEnded }: ScriptedWorker) => given.length > 0 && hasEnded;
      await bench.clock.runUntil(() => bench.workers.slice(known - 1).some(hasDiedAtWork));
      isBroken = false;
      await bench.clock.runUntil(() => bench.endings.length === names.length);
      expect(bench.endings.toSorted()).toEqual(names.map((name) => `${name} done`));
      await bench.stop();
    });

    it("is decided by a worker that was started since the first of several deaths", async () => {
      const bench = await PoolBench.start({ workers: 2, capacity: 10 });
      const [one, two] = bench.workers as [ScriptedWorker, ScriptedWorker];
      bench.offer("a");
      bench.offer("b");
      one.end();
      const third = await bench.worker(2);
      expect(third.given).toEqual([]);
      two.end();
      await bench.clock.advance(1000);
      expect(bench.failures).toBe(2);
      await bench.stop();
    });

    it("goes on with the workers that live while a new one cannot be started", async () => {
      const bench = await PoolBench.start({ workers: 2, capacity: 10, maxAttempts: 1 });
      const [one, two] = bench.workers as [ScriptedWorker, ScriptedWorker];
      bench.offer("innocent");
      bench.offer("b");
      two.ok();
      one.end();
      const third = await bench.worker(2);
      third.end();
      await bench.clock.advance(1);
      expect(bench.holds(two)).toEqual(["b", "innocent"]);
      two.ok();
      expect(bench.endings).toEqual(["b done", "innocent done"]);
      expect(bench.troubles).toEqual([]);
      await bench.stop();
    });

    it("tries each of several messages alone before a death counts against it", async () => {
      const bench = await PoolBench.start({ maxInFlight: 3, maxAttempts: 2, capacity: 10 });
      bench.offer("warm up");
      bench.newest.ok();
      for (const text of ["a", "poison", "c"]) bench.offer(text);
      expect(bench.holds()).toEqual(["warm up", "a", "poison", "c"]);
      bench.newest.end();
      // Alone, one after the other, each at its first attempt still.
      const second = await bench.worker(1);
      expect(await bench.given(second, 0)).toMatchObject({ attempt: 1, event: { message: "a" } });
      await bench.clock.advance(0);
      bench.offer("d");
      expect(second.given).toHaveLength(1);
      second.ok();
      expect(bench.holds(second)).toEqual(["a", "poison"]);
      second.end();
      expect(bench.failures).toBe(1);
      const third = await bench.worker(2);
      expect(bench.holds(third)).toEqual(["c"]);
      third.ok();
      expect(bench.holds(third)).toEqual(["c", "d"]);
      expect(bench.endings).toEqual(["warm up done", "a done", "c done"]);
      third.ok();
      expect(await bench.given(third, 2)).toMatchObject({ attempt: 2, event: { message: "poison" } });
      third.end();
      expect(bench.endings.at(-1)).toMatch(/^poison refused/);
      await bench.stop();
    });

    it("takes an idle worker that somebody killed for what it is, and starts another one", async () => {
      const bench = await PoolBench.start();
      await bench.clock.advance(5000);
      bench.newest.end("it was ended by SIGKILL", "signalled");
      const next = await bench.worker(1);
      bench.offer("a");
      expect(next.given).toHaveLength(1);
      expect([bench.events, bench.troubles]).toEqual([["handler_worker_died"], []]);
      await bench.stop();
    });

    it("keeps a worker free for a message that must be alone, however many others there are", async () => {
      const bench = await PoolBench.start({ maxInFlight: 2, capacity: 20 });
      bench.offer("warm up");
      bench.newest.ok();
      for (const text of ["a", "b"]) bench.offer(text);
      bench.newest.end();
      for (let n = 0; n < 10; n += 1) bench.offer(`${n}`);
      const second = await bench.worker(1);
      await bench.clock.advance(0);
      expect(bench.holds(second)).toEqual(["0", "1"]);
      second.ok(0);
      expect(second.given).toHaveLength(2);
      second.ok(1);
      expect(bench.holds(second)).toEqual(["0", "1", "a"]);
      second.ok();
      second.ok();
      expect(bench.holds(second).slice(3)).toEqual(["b", "2", "3"]);
      await bench.stop();
    });

    it("starts a worker that ended by itself between two messages again, without a word", async () => {
      const bench = await PoolBench.start();
      bench.offer("a");
      bench.newest.ok();
      bench.newest.end("it exited with code 0", "finished");
      expect(bench.workers).toHaveLength(2);
      bench.newest.end("it exited with code 0", "finished");
      expect(bench.events.filter((name) => name === "handler_worker_died")).toEqual([]);
      await bench.stop();
    });
  });

  describe("commanded", () => {
    it("scales up and down, and those that are too many finish what they hold", async () => {
      const bench = await PoolBench.start({ workers: 2, capacity: 10 });
      await bench.dispatch.scale(bench.pool, 3);
      await bench.clock.settle();
      expect(bench.workers).toHaveLength(3);
      for (const text of ["a", "b", "c"]) bench.offer(text);
      const [one, two, three] = bench.workers as [ScriptedWorker, ScriptedWorker, ScriptedWorker];
      for (const worker of [two, three]) worker.obeys = false;
      const scaled = bench.dispatch.scale(bench.pool, 1);
      await bench.clock.settle();
      expect([one.wasFinished, two.wasFinished, three.wasFinished]).toEqual([false, true, true]);
      two.ok();
      expect(bench.endings).toEqual(["b done"]);
      bench.offer("d");
      expect(two.given).toHaveLength(1);
      two.end("it exited with code 0", "finished");
      // The third goes without an answer: its message is another's.
      three.end();
      await bench.clock.run(scaled);
      one.ok();
      await bench.clock.settle();
      expect(bench.holds(one)).toEqual(["a", "d"]);
      one.ok();
      expect(await bench.given(one, 2)).toMatchObject({ attempt: 1, event: { message: "c" } });
      await bench.stop();
    });

    it("stops with SIGTERM for who does not finish, and SIGKILL for who ignores that", async () => {
      const bench = await PoolBench.start();
      const worker = bench.newest;
      worker.obeys = false;
      const stopped = bench.dispatch.stop(bench.pool);
      await bench.clock.settle();
      expect([worker.wasFinished, worker.wasTerminated, worker.wasKilled]).toEqual([true, false, false]);
      await bench.clock.advance(1000);
      expect([worker.wasTerminated, worker.wasKilled]).toEqual([true, false]);
      await bench.clock.advance(500);
      expect(worker.wasKilled).toBe(true);
      await stopped;
      expect(bench.workers).toHaveLength(1);
      await bench.dispatch.leave(bench.pool, bench.channels);
    });

    it("carries out commands in order, however many are given at once to a channel of two", async () => {
      const bench = await PoolBench.start({ capacity: 2 });
      const scales = [3, 1, 4, 2].map((workers) => bench.dispatch.scale(bench.pool, workers));
      await bench.clock.run(Promise.all(scales));
      expect(bench.workers.filter(({ hasEnded }) => !hasEnded)).toHaveLength(2);
      expect(bench.workers).toHaveLength(6);
      await bench.stop();
    });

    it("says that all is well with each health check, but not while no worker can be started", async () => {
      const bench = await PoolBench.start();
      bench.dispatch.check(bench.pool);
      await bench.clock.settle();
      expect(bench.alive).toBe(1);
      bench.newest.end();
      bench.dispatch.check(bench.pool);
      await bench.clock.settle();
      expect(bench.alive).toBe(1);
      await bench.stop();
    });
  });
});
