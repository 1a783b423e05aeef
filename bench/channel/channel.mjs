// What a channel costs per item, in one process and one thread: `npm run build`, then `node bench/channel/channel.mjs`
// (words after it choose cases by name; ITEMS=n changes the length of a run). Median of 5 runs.
//
// Two cores shared with other work, Node 20.20.2, million items/s (a bare ring without counts gave 95 to 135 meanwhile,
// and 205 when the machine was quiet: trust the ratios):
//   trySend + tryRecv 65 to 71 | weighed (bytes and records) 22 to 31 | send + recv, awaiting only when one must 33 to 40
//   send + recvMany(256) 27 to 41 | 4 senders -> 1 receiver 34 to 40 | awaiting always 4 to 6 | for await 2 | ping-pong 5
//
// What the profiles said:
// - trySend and tryRecv are inlined down to the ring; a flag that folds the checks of the fast path into one gained
//   nothing. Weighing costs two user callbacks and the side array: 20 ns an item, nothing against a batch.
// - `for await` and "awaiting always" are slow where the sender is the faster side: each receive then lets in exactly
//   one waiting sender, so that every send waits. A third of that is two looks at the clock for the duration of the wait
//   (performance.now is 70 ns here). Loops that are hot read with recvMany, or with tryRecv before recv.
import { channel } from "../../dist/channel/index.js";

const ITEMS = Number(process.env["ITEMS"] ?? 4_000_000);
const ROUNDS = 5;

/** Names and what runs `items` items through a channel. */
const cases = {
  "trySend + tryRecv": (items) => {
    const { sender, receiver } = channel({ capacity: 1024 });
    let sum = 0;
    for (let sent = 0; sent < items; ) {
      for (let burst = 0; burst < 512; burst += 1, sent += 1) sender.trySend(sent);
      for (let burst = 0; burst < 512; burst += 1) sum += receiver.tryRecv();
    }
    return close(sender, receiver, sum);
  },
  "trySend + tryRecv, weighed": (items) => {
    const { sender, receiver } = channel({
      capacity: 1024,
      capacityBytes: 1 << 20,
      sizeOf: () => 64,
      recordsOf: () => 3,
    });
    let sum = 0;
    for (let sent = 0; sent < items; ) {
      for (let burst = 0; burst < 512; burst += 1, sent += 1) sender.trySend(sent);
      for (let burst = 0; burst < 512; burst += 1) sum += receiver.tryRecv();
    }
    return close(sender, receiver, sum);
  },
  "send + recv, awaiting only when one must": async (items) => {
    const { sender, receiver } = channel({ capacity: 1024 });
    const producing = (async () => {
      for (let sent = 0; sent < items; sent += 1) if (sender.trySend(sent) !== "sent") await sender.send(sent);
      sender.close();
    })();
    let sum = 0;
    while (!receiver.closed) sum += receiver.tryRecv() ?? (await receiver.recv()) ?? 0;
    await producing;
    return sum;
  },
  "send + recv, awaiting always": async (items) => {
    const { sender, receiver } = channel({ capacity: 1024 });
    const producing = (async () => {
      for (let sent = 0; sent < items; sent += 1) await sender.send(sent);
      sender.close();
    })();
    let sum = 0;
    for (let value = await receiver.recv(); value !== undefined; value = await receiver.recv()) sum += value;
    await producing;
    return sum;
  },
  "send + for await": async (items) => {
    const { sender, receiver } = channel({ capacity: 1024 });
    const producing = (async () => {
      for (let sent = 0; sent < items; sent += 1) if (sender.trySend(sent) !== "sent") await sender.send(sent);
      sender.close();
    })();
    let sum = 0;
    for await (const value of receiver) sum += value;
    await producing;
    return sum;
  },
  "ping-pong over capacity 1": async (items) => {
    const there = channel({ capacity: 1 });
    const back = channel({ capacity: 1 });
    const answering = (async () => {
      for (let value = await there.receiver.recv(); value !== undefined; value = await there.receiver.recv()) {
        await back.sender.send(value);
      }
      back.sender.close();
    })();
    let sum = 0;
    for (let sent = 0; sent < items / 2; sent += 1) {
      await there.sender.send(sent);
      sum += await back.receiver.recv();
    }
    there.sender.close();
    await answering;
    return sum;
  },
  "send + recvMany(256)": async (items) => {
    const { sender, receiver } = channel({ capacity: 1024 });
    const producing = (async () => {
      for (let sent = 0; sent < items; sent += 1) if (sender.trySend(sent) !== "sent") await sender.send(sent);
      sender.close();
    })();
    let sum = 0;
    for (let values = await receiver.recvMany(256); values.length > 0; values = await receiver.recvMany(256)) {
      for (const value of values) sum += value;
    }
    await producing;
    return sum;
  },
  "4 senders -> 1 receiver": async (items) => {
    const { sender, receiver } = channel({ capacity: 1024 });
    const producing = [0, 1, 2, 3].map(async () => {
      const own = sender.clone();
      for (let sent = 0; sent < items / 4; sent += 1) if (own.trySend(sent) !== "sent") await own.send(sent);
      own.close();
    });
    sender.close();
    let sum = 0;
    while (!receiver.closed) sum += receiver.tryRecv() ?? (await receiver.recv()) ?? 0;
    await Promise.all(producing);
    return sum;
  },
};

function close(sender, receiver, sum) {
  sender.close();
  receiver.close();
  return sum;
}

const wanted = process.argv.slice(2);
for (const [name, run] of Object.entries(cases)) {
  if (wanted.length > 0 && !wanted.some((word) => name.includes(word))) continue;
  await run(100_000);
  const seconds = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = performance.now();
    await run(ITEMS);
    seconds.push((performance.now() - start) / 1000);
  }
  seconds.sort((one, other) => one - other);
  const median = seconds[ROUNDS >> 1];
  console.log(`${name.padEnd(42)} ${(ITEMS / median / 1e6).toFixed(1).padStart(7)} M items/s`);
}
