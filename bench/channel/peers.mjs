// The same work by other queues: each gives what it can of "batch" (one sender that waits for room, one receiver that
// takes up to 256 at once), "many" (four senders) and "pingPong" (over capacity 1, `items` hops), in the way that its own
// documentation recommends and that is fastest for it. Node's own streams are always there; the packages are loaded when
// they are installed (`npm install --no-save effect fastq async it-pushable`), and missed aloud when they are not.
import { once } from "node:events";
import { PassThrough } from "node:stream";

const CAPACITY = 1024;
const CHUNK = 256;

export async function loadPeers() {
  const found = [{ name: `Node ${process.version} object streams`, ...streams() }];
  const missing = [];
  for (const [name, adapt] of Object.entries({ effect, fastq, async: asyncQueue, "it-pushable": pushable })) {
    try {
      const [library, { default: manifest }] = await Promise.all([import(name), manifestOf(name)]);
      found.push({ name: `${name} ${manifest.version}`, ...adapt(library) });
    } catch (error) {
      missing.push(`${name} (${error.code ?? error.message})`);
    }
  }
  return { found, missing };
}

async function manifestOf(name) {
  try {
    return await import(`${name}/package.json`, { with: { type: "json" } });
  } catch {
    return { default: { version: "(version unknown)" } };
  }
}

function streams() {
  const write = async (stream, from, to) => {
    for (let sent = from; sent < to; sent += 1) if (!stream.write(sent + 1)) await once(stream, "drain");
  };
  return {
    async batch(items) {
      const stream = new PassThrough({ objectMode: true, highWaterMark: CAPACITY });
      let sum = 0;
      stream.on("data", (value) => {
        sum += value;
      });
      await write(stream, 0, items);
      stream.end();
      await once(stream, "end");
      return sum;
    },
    async many(items) {
      const stream = new PassThrough({ objectMode: true, highWaterMark: CAPACITY });
      stream.setMaxListeners(0);
      let sum = 0;
      stream.on("data", (value) => {
        sum += value;
      });
      await Promise.all([0, 1, 2, 3].map(() => write(stream, 0, items / 4)));
      stream.end();
      await once(stream, "end");
      return sum;
    },
    pingPong(items) {
      const there = new PassThrough({ objectMode: true, highWaterMark: 1 });
      const back = new PassThrough({ objectMode: true, highWaterMark: 1 });
      return new Promise((resolve) => {
        let hops = 0;
        there.on("data", (value) => back.write(value));
        back.on("data", (value) => {
          hops += 2;
          if (hops >= items) resolve(hops);
          else there.write(value);
        });
        there.write(1);
      });
    },
  };
}

function effect({ Effect, Fiber, Queue }) {
  const drain = (queue, items) =>
    Effect.gen(function* () {
      let sum = 0;
      for (let left = items; left > 0; ) {
        const values = yield* Queue.takeBetween(queue, 1, CHUNK);
        for (const value of values) sum += value;
        left -= values.length;
      }
      return sum;
    });
  const fill = (queue, items) =>
    Effect.gen(function* () {
      for (let sent = 0; sent < items; sent += CHUNK) {
        yield* Queue.offerAll(
          queue,
          Array.from({ length: Math.min(CHUNK, items - sent) }, (_, index) => sent + index),
        );
      }
    });
  const withSenders = (items, senders) =>
    Effect.runPromise(
      Effect.gen(function* () {
        const queue = yield* Queue.bounded(CAPACITY);
        for (let sender = 0; sender < senders; sender += 1) yield* Effect.forkChild(fill(queue, items / senders));
        return yield* drain(queue, items);
      }),
    );
  return {
    batch: (items) => withSenders(items, 1),
    many: (items) => withSenders(items, 4),
    pingPong: (items) =>
      Effect.runPromise(
        Effect.gen(function* () {
          const there = yield* Queue.bounded(1);
          const back = yield* Queue.bounded(1);
          const answering = yield* Effect.forkChild(
            Effect.gen(function* () {
              for (let hop = 0; hop < items / 2; hop += 1) yield* Queue.offer(back, yield* Queue.take(there));
            }),
          );
          let sum = 0;
          for (let hop = 0; hop < items / 2; hop += 1) {
            yield* Queue.offer(there, hop);
            sum += yield* Queue.take(back);
          }
          yield* Fiber.join(answering);
          return sum;
        }),
      ),
  };
}

function fastq({ default: library }) {
  // It has no batches and no bound: the sender looks at the length, and waits for `drained`.
  const fill = async (queue, items) => {
    for (let sent = 0; sent < items; sent += 1) {
      queue.push(sent, ignore);
      if (queue.length() >= CAPACITY) await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const run = async (items, senders) => {
    let sum = 0;
    let left = items;
    let end;
    const ended = new Promise((resolve) => {
      end = resolve;
    });
    const queue = library((value, done) => {
      sum += value;
      left -= 1;
      done(null);
      if (left === 0) end();
    }, 1);
    await Promise.all(Array.from({ length: senders }, () => fill(queue, items / senders)));
    await ended;
    return sum;
  };
  return {
    batch: (items) => run(items, 1),
    many: (items) => run(items, 4),
    async pingPong(items) {
      // A push and its answer are two hops.
      const queue = library.promise(async (value) => value, 1);
      let sum = 0;
      for (let hop = 0; hop < items; hop += 2) sum += await queue.push(hop);
      return sum;
    },
  };
}

function asyncQueue({ default: library }) {
  const run = async (items, senders) => {
    let sum = 0;
    const cargo = library.cargo((values, done) => {
      for (const value of values) sum += value;
      done();
    }, CHUNK);
    const fill = async (count) => {
      for (let sent = 0; sent < count; sent += CHUNK) {
        cargo.push(Array.from({ length: Math.min(CHUNK, count - sent) }, (_, index) => sent + index));
        if (cargo.length() >= CAPACITY) await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const drained = cargo.drain();
    await Promise.all(Array.from({ length: senders }, () => fill(items / senders)));
    if (cargo.length() > 0) await drained;
    return sum;
  };
  return {
    batch: (items) => run(items, 1),
    many: (items) => run(items, 4),
    async pingPong(items) {
      const queue = library.queue((value, done) => done(null, value), 1);
      let sum = 0;
      for (let hop = 0; hop < items; hop += 2) sum += await queue.pushAsync(hop);
      return sum;
    },
  };
}

function pushable({ pushable: create }) {
  return {
    async batch(items) {
      // No bound: the sender looks at what is inside.
      const queue = create({ objectMode: true });
      const filling = (async () => {
        for (let sent = 0; sent < items; sent += 1) {
          queue.push(sent);
          if (queue.readableLength >= CAPACITY) await new Promise((resolve) => setImmediate(resolve));
        }
        queue.end();
      })();
      let sum = 0;
      for await (const value of queue) sum += value;
      await filling;
      return sum;
    },
    async pingPong(items) {
      const [there, back] = [create({ objectMode: true }), create({ objectMode: true })];
      const answering = (async () => {
        for await (const value of there) back.push(value);
      })();
      let sum = 0;
      for (let hop = 0; hop < items / 2; hop += 1) {
        there.push(hop);
        sum += (await back.next()).value;
      }
      there.end();
      await answering;
      return sum;
    },
  };
}

function ignore() {}
